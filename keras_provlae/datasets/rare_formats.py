"""Decoder for image files other than JPEG and 8-bit PNG, in Python with Pillow."""

from __future__ import annotations

import io

import numpy as np

from keras_provlae.lazy_tensorflow import tf

PNG = b"\x89PNG\r\n\x1a\n"
_SURELY_ALL_BITS = 2**14  # cameras with 14 bits or fewer stay below


def decode_rare(content: bytes, bits: int | None) -> np.ndarray:
    """Decodes a 16-bit PNG, or the first frame of any file that Pillow reads.

    Args:
        content: Bytes of the file.
        bits: Significant bits of 16-bit values; `None` means 16, and rejects images that use 14 or fewer.

    Returns:
        uint8 array `(height, width, 4)`: red, green, blue, alpha.

    Raises:
        ValueError: If decoding fails; the message is the reason.
    """
    if content.startswith(PNG):  # Pillow keeps only 8 of 16 bits of a color PNG
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
        raise ValueError("TensorFlow and Pillow do not know its format") from None
    except Exception as error:  # Pillow's error type for a damaged file depends on the format
        raise ValueError(str(error) or type(error).__name__) from error


def _rgba(image, bits):
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        full = image.mode == "I"  # the file declares its maximum, and Pillow has scaled by it
        gray = eight_bits(np.asarray(image), 16 if full else bits)[..., np.newaxis]
        return np.concatenate([gray, gray, gray, np.full_like(gray, 255)], axis=-1)
    if image.mode in ("I", "F"):
        raise ValueError("it has 32-bit pixels, whose values for black and white are unknown")
    deep = image.format == "TIFF" and max(image.tag_v2.get(258, (8,))) > 8
    if deep and bits != 16:
        raise ValueError("it has 16-bit colors, of which Pillow reads the upper 8 bits. Pass `bits=16` if it uses all")
    return np.asarray(image.convert("RGBA"))


def eight_bits(pixels: np.ndarray, bits: int | None) -> np.ndarray:
    """Scales `bits`-bit integers to uint8.

    Args:
        pixels: Array of integers in [0, 2^16).
        bits: As `decode_rare`.

    Returns:
        uint8 array like `pixels`.

    Raises:
        ValueError: If a value needs more bits; with `None`, if the largest value is not 0 but fits in 14 bits.
    """
    largest = int(pixels.max())
    if bits is None and 0 < largest < _SURELY_ALL_BITS:
        raise ValueError(
            f"its largest value is {largest} of 65535, so it is nearly black or uses fewer than 16 bits. Pass "
            f"`image_folder` the camera's bit depth, such as `bits=16` or `bits={largest.bit_length()}`"
        )
    most = 2 ** (bits or 16) - 1
    if largest > most:
        raise ValueError(f"its largest value is {largest}, which does not fit in `bits={bits}`")
    return np.rint(pixels * (255.0 / most)).astype("uint8")
