"""Decodes PNG and JPEG files inside a graph, and fits them to a model's image shape."""

from typing import Any

import tensorflow as tf

from keras_provlae.datasets.image_files import center_crop

CHANNELS = (1, 3)  # of the models that can take image files
MAX_PIXELS = 2**25  # per image: decoding takes about 40 bytes a pixel
PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_PALETTE, _WITHOUT_ALPHA = 3, (0, 2)  # PNG color types
_FILES = (
    "`image_bytes` must hold PNG or JPEG files; in JSON, objects with the single key b64. "
    "Received something else as item, counted from 0:"
)
_WHOLE = "`image_bytes` must hold whole PNG or JPEG files. Received a broken one as item, counted from 0:"
_SIZES = (
    f"`image_bytes` must hold images of at most {MAX_PIXELS} pixels. "
    "Received a larger one as item, counted from 0, of height and width:"
)


def image_decoder(image_shape: tuple[int, int, int]) -> Any:
    """Builds a function that decodes, converts and resizes a batch of files, traced once for all signatures.

    Crops the center to the aspect ratio of `image_shape` and resizes it like `image_folder` (bilinear, antialiased).
    Transparent pixels are blended with white. 16-bit files keep their precision. Gray is
    0.299 R + 0.587 G + 0.114 B. EXIF orientation is ignored.

    Files are decoded one at a time, after their declared size has been checked.

    Args:
        image_shape: `(height, width, channels)` with 1 or 3 channels.

    Returns:
        A `tf.function` from strings `(batch,)` to float32 `(batch, height, width, channels)` in [0, 1]. It raises
        `tf.errors.InvalidArgumentError` with the index of the first item that is not a PNG or JPEG file, is broken
        or declares more than 2 ** 25 pixels.
    """

    @tf.autograph.experimental.do_not_convert
    def read(number, data):
        """Returns the index, the declared size and the pixels, which are blank if the size is over the limit."""
        size = tf.cond(_starts(data, PNG), lambda: _png_size(data), lambda: _jpeg_size(data))
        allowed = tf.reduce_prod(size) <= MAX_PIXELS
        return number, size, tf.cond(allowed, lambda: _fitted(_decoded(data), image_shape), lambda: blank)

    blank = tf.zeros(image_shape)

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string)], autograph=False)
    def decode_batch(image_bytes):
        count = tf.size(image_bytes, tf.int64)
        with _required(_starts(image_bytes, PNG) | _starts(image_bytes, JPEG), _FILES):
            files = tf.data.Dataset.from_tensor_slices(tf.identity(image_bytes))
        # an error does not tell which file failed, but the gap that it leaves in the indices does
        images = files.enumerate().map(read).ignore_errors()
        end = tf.data.Dataset.from_tensors((count, tf.zeros(2, tf.int64), blank))
        numbers, sizes, images = images.concatenate(end).batch(count + 1).get_single_element()
        with _required(numbers == tf.range(tf.size(numbers, tf.int64)), _WHOLE):
            sizes = tf.identity(sizes)
        with _required(tf.reduce_prod(sizes, axis=1) <= MAX_PIXELS, _SIZES, sizes):
            return images[:-1]

    return decode_batch


def _starts(data, magic):
    return tf.strings.substr(data, 0, len(magic)) == magic


def _required(conditions, rule, *facts):
    """Context of ops that run only if every item meets its condition; else the error names the first that does not."""
    first = tf.argmax(tf.pad(~conditions, [[0, 1]], constant_values=True))
    facts = [tf.gather(tf.concat([fact, fact[:1]], 0), first) for fact in facts]  # one past the end if all do
    return tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(conditions), [rule, first, *facts])])


def _png_header(data):
    return tf.io.decode_raw(tf.strings.substr(data, 16, 10), tf.uint8)  # width, height, bit depth and color type


def _png_size(data):
    width_and_height = tf.reshape(tf.cast(_png_header(data)[:8], tf.int64), (2, 4))
    return tf.reverse(tf.linalg.matvec(width_and_height, tf.constant([2**24, 2**16, 2**8, 1], tf.int64)), [0])


def _jpeg_size(data):
    return tf.cast(tf.io.extract_jpeg_shape(data)[:2], tf.int64)


def _decoded(data):
    """Float32 `(height, width, 3)` in [0, 1]."""
    return tf.cond(_starts(data, PNG), lambda: _decoded_png(data), lambda: _decode(data, 3))


def _decode(data, channels):
    return tf.io.decode_image(data, channels, tf.float32, expand_animations=False)  # keeps 16 bits


def _decoded_png(data):
    """Decodes a PNG file and blends its transparent pixels with white.

    TensorFlow reads the transparent color (tRNS) of files without an alpha channel only if four channels are requested.
    Below 8 bits it then fills in a wrong alpha, but never 0. Palettes decode correctly with the default.
    """
    color_type = _png_header(data)[9]

    def palette():
        image = _decode(data, 0)
        return tf.pad(image, [[0, 0], [0, 0], [0, 4 - tf.shape(image)[-1]]], constant_values=1.0)

    image = tf.cond(color_type == _PALETTE, palette, lambda: _decode(data, 4))
    color, alpha = image[..., :3], image[..., 3:]
    is_binary = tf.reduce_any(color_type == _WITHOUT_ALPHA)
    alpha = tf.maximum(alpha, tf.sign(alpha) * tf.cast(is_binary, tf.float32))
    return color * alpha + (1.0 - alpha)


def _fitted(image, image_shape):
    height, width, channels = image_shape
    image = tf.image.resize(center_crop(image, height, width), (height, width), antialias=True)
    if channels == 1:
        image = tf.reduce_sum(image * [0.299, 0.587, 0.114], axis=-1, keepdims=True)
    return tf.ensure_shape(tf.clip_by_value(image, 0.0, 1.0), image_shape)
