"""Your own images: any folder of files, as a `tf.data.Dataset`."""

import os
from collections.abc import Sequence

import tensorflow as tf

from keras_provlae.datasets.checks import check_count, checked_shard, chosen_seed
from keras_provlae.datasets.image_files import (
    center_crop,
    check_on_bad_image,
    decode_one,
    find_images,
    good_images,
    load_images,
    resize,
)
from keras_provlae.datasets.passes import index_batches


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
) -> tf.data.Dataset:
    """The images of a folder, and of the folders in it, as float32 in [0, 1].

    Args:
        folder: Path of the folder. JPEG, PNG, BMP (without a palette) and GIF files (the first frame) are read, as
            TensorFlow decodes them: no turning by EXIF, no transparency. Hidden files are left out.
        batch_size: Int >= 1. Images per batch, of all processes together; the last may be smaller.
        image_size: Int or `(height, width)`, pixels: the largest part in the middle with these proportions is resized.
            `None`: all images have the size of the first, and stay as they are.
        channels: 3 for colour, 1 for gray.
        shuffle: Bool. Draws a new order for each pass; `False` is the order of the names.
        seed: Int or `None`. The same seed gives the same stream.
        on_bad_image: What to do with a file that cannot be decoded. `"error"`: the pass ends with an error that
            names it. `"skip"`: every file is decoded once beforehand, and a warning says how many are left out.
        drop_remainder: Bool. Leaves out the last batch where it is smaller.
        shard: `(index, count)`: only the part of every batch that process `index` of `count` reads, as
            `GroundTruth.tf_dataset`; the folder must be the same in all of them.

    Returns:
        A `tf.data.Dataset` of float32 `(batch, height, width, channels)`; `len` works.

    Raises:
        FileNotFoundError: If there is no folder, or no image in it.
        TypeError, ValueError: If an argument is unfit, or the first image cannot be decoded.

    While it is read: `tf.errors.InvalidArgumentError` where a file cannot be decoded or has another size than the
    first; the message names the file.
    """
    check_count("batch_size", batch_size)
    check_on_bad_image(on_bad_image)
    _, shards = checked_shard(shard, batch_size)
    seed = chosen_seed(seed, shard)
    if channels not in (1, 3) or isinstance(channels, bool):
        raise ValueError(f"`channels` must be 3 (colour) or 1 (gray). Received: channels={channels!r}.")
    size = None if image_size is None else _height_and_width(image_size)
    paths = good_images(find_images(folder), channels, on_bad_image)
    if size is None:
        size = decode_one(paths[0], channels).shape[:2]
        prepare = _same_size(paths[0], *size)
    else:
        prepare = _resized(*size)
    shape = (*size, channels)
    numbers = index_batches(len(paths), batch_size, seed, shuffle, drop_remainder=drop_remainder, shard=shard)
    ds = load_images(numbers.unbatch(), paths, channels, prepare).map(
        lambda number, image: tf.ensure_shape(image, shape)
    )
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


def _resized(height, width):
    return lambda image, path: resize(center_crop(image, height, width), height, width)


def _same_size(first_path, height, width):
    def prepare(image, path):
        size = tf.shape(image)[:2]
        rule = f"All images must be {height} x {width} as {first_path}, or pass `image_size`. Received:"
        with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(size == (height, width)), [rule, path, size])]):
            return tf.cast(image, tf.float32) / 255.0

    return prepare
