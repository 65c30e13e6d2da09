"""A folder of your own images as a `tf.data.Dataset`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from numbers import Real

from keras_provlae.checks import check_count
from keras_provlae.datasets.checks import checked_shard, chosen_seed
from keras_provlae.datasets.folder_files import find_images, shown
from keras_provlae.datasets.image_files import (
    Decoding,
    center_crop,
    check_on_bad_image,
    decode_one,
    good_images,
    load_images,
    resize,
)
from keras_provlae.datasets.index_batches import index_batches
from keras_provlae.lazy_tensorflow import check_tensorflow, tf


def image_folder(
    folder: str | os.PathLike,
    batch_size: int = 100,
    image_size: int | Sequence[int] | None = None,
    channels: int = 3,
    shuffle: bool = True,
    seed: int | None = None,
    on_bad_image: str = "error",
    drop_remainder: bool = False,
    shard: Sequence[int] | None = None,
    background: float | Sequence[float] = 1.0,
    bits: int | None = None,
) -> tf.data.Dataset:
    """Loads the images of a folder and its subfolders as float32 in [0, 1].

    Args:
        folder: Path of the folder. TensorFlow reads JPEG and PNG files; Pillow reads BMP, GIF, WebP, TIFF, PNM, TGA,
            JPEG 2000 and AVIF files (the first frame). EXIF orientation is ignored. Linked folders are included, each
            once. Hidden files and other suffixes are skipped, and a printed line counts them.
        batch_size: Int >= 1. Images per batch, of all processes together; the last may be smaller.
        image_size: Int or `(height, width)`, pixels. Crops the largest centered part with this aspect ratio and
            resizes it. `None` keeps the images, which must all be the size of the first.
        channels: 3 for color, 1 for gray.
        shuffle: Bool. Draws a new order for each epoch; `False` is the order of the names.
        seed: Int or `None`. The same seed gives the same stream.
        on_bad_image: How to handle files that cannot be decoded. `"error"`: the epoch ends with an error that names
            the file. `"skip"`: decodes every file once at the start, and warns how many are skipped.
        drop_remainder: Bool. Drops the last batch if it is smaller.
        shard: `(index, count)`: reads only this process's part of every batch, as in `GroundTruth.tf_dataset`. All
            processes must see the same folder.
        background: Color behind transparent pixels, in [0, 1]: a gray, or (red, green, blue). 1 is white.
        bits: Int 1 .. 16 or `None`. Significant bits of 16-bit PNG and TIFF files: 12 for a camera whose white is
            4095. `None` means 16, and treats a file that uses 14 or fewer as bad. Has no effect on 8-bit files.

    Returns:
        A `tf.data.Dataset` of float32 `(batch, height, width, channels)`; `len` works.

    Raises:
        FileNotFoundError: If the folder is missing or has no image.
        TypeError, ValueError: If an argument is invalid, or the first image cannot be decoded.
        tf.errors.InvalidArgumentError: During iteration, if a file cannot be decoded or differs from the first in
            size; the message names the file.
    """
    check_tensorflow("`datasets.image_folder`")
    check_count("batch_size", batch_size)
    check_on_bad_image(on_bad_image)
    _, shards = checked_shard(shard, batch_size)
    seed = chosen_seed(seed, shard)
    if channels not in (1, 3) or isinstance(channels, bool):
        raise ValueError(f"`channels` must be 3 (color) or 1 (gray). Received: channels={channels!r}.")
    size = None if image_size is None else _height_and_width(image_size)
    how = Decoding(channels, _color(background), _checked_bits(bits))
    paths = good_images(find_images(folder, on_bad_image), how, on_bad_image)
    first = decode_one(paths[0], how)
    if size is None:
        size = first.shape[:2]
        prepare = _same_size(paths[0], *size)
    else:
        prepare = _resized(*size)
    shape = (*size, channels)
    numbers = index_batches(len(paths), batch_size, seed, shuffle, drop_remainder=drop_remainder, shard=shard)
    ds = load_images(numbers.unbatch(), paths, how, prepare).map(lambda number, image: tf.ensure_shape(image, shape))
    ds = ds.batch(batch_size // shards, drop_remainder=drop_remainder)
    ds = ds.apply(tf.data.experimental.assert_cardinality(len(numbers)))
    return ds.prefetch(tf.data.AUTOTUNE)


def _height_and_width(image_size):
    pair = isinstance(image_size, Sequence) and not isinstance(image_size, str)
    size = tuple(image_size) if pair else (image_size, image_size)
    if len(size) != 2:
        raise ValueError(f"`image_size` must be an int or (height, width). Received: image_size={image_size!r}.")
    for pixels in size:
        check_count("image_size", pixels)
    return size


def _color(background):
    color = tuple(background) if isinstance(background, Sequence) else (background,) * 3
    if not all(isinstance(value, Real) for value in color):
        raise TypeError(f"`background` must be a number or (red, green, blue). Received: background={background!r}.")
    if len(color) != 3 or not all(0 <= value <= 1 for value in color):
        raise ValueError(
            "`background` must be a gray in [0, 1], or (red, green, blue) in [0, 1]. "
            f"Received: background={background!r}. Divide by 255?"
        )
    return tuple(map(float, color))


def _checked_bits(bits):
    if bits is None:
        return None
    check_count("bits", bits)
    if bits > 16:
        raise ValueError(f"`bits` must be at most 16. Received: bits={bits}.")
    return int(bits)


def _resized(height, width):
    return lambda image, name: resize(center_crop(image, height, width), height, width)


def _same_size(first_path, height, width):
    rule = f"All images must be {height} x {width} like {shown(first_path)}, or pass `image_size`. Received:"

    def prepare(image, name):
        size = tf.shape(image)[:2]
        with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(size == (height, width)), [rule, name, size])]):
            return tf.cast(image, tf.float32) / 255.0

    return prepare
