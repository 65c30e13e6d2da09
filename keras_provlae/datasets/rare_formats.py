"""Image files that are neither JPEG nor PNG of 8 bits: decoded in Python, by Pillow."""

import io

import numpy as np
import tensorflow as tf

PNG = b"\x89PNG\r\n\x1a\n"
_SURELY_ALL_BITS = 2**14  # a value this large is not of a camera with 14 bits or fewer


def decode_rare(content: bytes, bits: int | None) -> np.ndarray:
    """Decodes any image file that Pillow knows, or a PNG of 16 bits; of several frames the first.

    Args:
        content: Bytes of the file.
        bits: Significant bits of values that are stored in 16; `None`: 16, where the image uses more than 14.

    Returns:
        uint8 array `(height, width, 4)`: red, green, blue, alpha.

    Raises:
        ValueError: If it cannot be decoded; the message says why.
    """
    if content.startswith(PNG):  # Pillow keeps 8 of the 16 bits of a colored one
        try:
            pixels = tf.io.decode_png(content, channels=4, dtype=tf.uint16).numpy()
        except tf.errors.OpError as error:
            raise ValueError(error.message) from None
        return np.concatenate([eight_bits(pixels[..., :3], bits), eight_bits(pixels[..., 3:], 16)], axis=-1)
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content)) as image:
            return _rgba(image, bits)
    except UnidentifiedImageError:
        raise ValueError("it is no image that TensorFlow or Pillow can decode") from None
    except Exception as error:  # what Pillow raises for a damaged file depends on its format
        raise ValueError(str(error) or type(error).__name__) from error


def _rgba(image, bits):
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        full = image.mode == "I"  # the file states its largest value, and Pillow has scaled by it
        gray = eight_bits(np.asarray(image), 16 if full else bits)[..., np.newaxis]
        return np.concatenate([gray, gray, gray, np.full_like(gray, 255)], axis=-1)
    if image.mode in ("I", "F"):
        raise ValueError("its pixels are numbers of 32 bits, of which black and white are not known")
    deep = image.format == "TIFF" and max(image.tag_v2.get(258, (8,))) > 8
    if deep and bits != 16:
        raise ValueError("it has colors of 16 bits, of which Pillow reads the upper 8: `bits=16` if it uses them")
    return np.asarray(image.convert("RGBA"))


def eight_bits(pixels: np.ndarray, bits: int | None) -> np.ndarray:
    """Scales integers of so many bits to uint8.

    Args:
        pixels: Array of integers >= 0, below 2^16.
        bits: As `decode_rare`.

    Returns:
        uint8 array of the same shape.

    Raises:
        ValueError: If a value has more bits; for `None`, if no value but 0 has more than 14.
    """
    largest = int(pixels.max())
    if bits is None and 0 < largest < _SURELY_ALL_BITS:
        raise ValueError(
            f"its largest value is {largest} of 65535, so it is nearly black or uses {largest.bit_length()} of its 16 "
            f"bits: say which to `image_folder`, `bits=16` or `bits={largest.bit_length()}` or what the camera has"
        )
    most = 2 ** (bits or 16) - 1
    if largest > most:
        raise ValueError(f"its largest value is {largest}, more than `bits={bits}` can say")
    return np.rint(pixels * (255.0 / most)).astype("uint8")
