"""Image files as a `tf.data.Dataset`: decoded in TensorFlow, with an error that names the file."""

import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_provlae.datasets.availability import say

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif")
_ON_BAD_IMAGE = ("error", "skip")
_OPEN_AT_ONCE = 16


def find_images(folder: str | os.PathLike) -> list[str]:
    """Paths of the images in a folder and the folders in it, sorted.

    Hidden files and folders, and `__MACOSX`, are left out; links to folders are not followed.

    Args:
        folder: Path of the folder.

    Returns:
        A list of paths.

    Raises:
        FileNotFoundError: If there is no such folder, or no image in it.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"There must be a folder of images. Received: {str(folder)!r}, which is no folder.")
    paths = sorted(
        str(path) for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and _is_shown(path, folder)
    )
    if not paths:
        raise FileNotFoundError(
            f"The folder {str(folder)!r} has no image: no file that ends in {', '.join(SUFFIXES)}, at any depth."
        )
    return paths


def _is_shown(path, folder):
    parts = path.relative_to(folder).parts
    return not any(part.startswith(".") or part == "__MACOSX" for part in parts) and path.is_file()


def check_on_bad_image(on_bad_image: str) -> None:
    """`"error"` or `"skip"`."""
    if on_bad_image not in _ON_BAD_IMAGE:
        raise ValueError(f"`on_bad_image` must be one of {_ON_BAD_IMAGE}. Received: on_bad_image={on_bad_image!r}.")


def good_images(paths: list[str], channels: int, on_bad_image: str) -> list[str]:
    """The paths to use: all, or with `"skip"` those that can be decoded.

    Args:
        paths: Paths of images.
        channels: 1 or 3.
        on_bad_image: `"error"`: all, unseen. `"skip"`: decodes each once and warns how many are left out.

    Returns:
        A list of paths.

    Raises:
        ValueError: If an argument is unknown, or no image can be decoded.
    """
    check_on_bad_image(on_bad_image)
    if on_bad_image == "error":
        return paths
    if len(paths) > 10_000:
        say(f"Looks for bad ones among {len(paths):,} images ...")
    ds = _decoded(tf.data.Dataset.range(len(paths)), paths, channels)
    ds = ds.map(lambda number, image: tf.size(image) > 0).batch(1024)
    good = np.concatenate(list(ds.as_numpy_iterator()))
    bad = [paths[number] for number in np.flatnonzero(~good)]
    if not good.any():
        raise ValueError(f"None of {len(paths)} images can be decoded, {bad[0]} for one. Are they images?")
    if bad:
        more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
        warnings.warn(
            f"{len(bad)} of {len(paths)} images cannot be decoded and are left out: {', '.join(bad[:3])}{more}.",
            stacklevel=3,
        )
    return [paths[number] for number in np.flatnonzero(good)]


def decode_one(path: str, channels: int) -> np.ndarray:
    """One image, uint8 `(height, width, channels)`.

    Raises:
        ValueError: If it cannot be decoded; the message names it.
    """
    try:
        return _decode(path, channels).numpy()
    except tf.errors.OpError as error:
        raise ValueError(_cannot_decode(path) + f" {error.message}") from None


def load_images(
    numbers: tf.data.Dataset, paths: Sequence[str], channels: int, prepare: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
) -> tf.data.Dataset:
    """Images by their number, in the order of the numbers.

    A file that cannot be decoded ends the iteration with `InvalidArgumentError`, which names it.

    Args:
        numbers: A data set of int64 scalars.
        paths: Paths of images.
        channels: 1 or 3.
        prepare: Takes the uint8 image `(height, width, channels)` and its path, as tensors; returns
            what is wanted of it.

    Returns:
        A `tf.data.Dataset` of `(number, prepared image)`.
    """
    all_paths = tf.constant(paths)

    def checked(number, image):
        path = all_paths[number]
        words = _cannot_decode("the file named here").split("the file named here")
        with tf.control_dependencies([tf.debugging.Assert(tf.size(image) > 0, [words[0], path, words[1]])]):
            return number, prepare(tf.identity(image), path)

    ds = _decoded(numbers, paths, channels)
    return ds.map(checked, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def _decoded(numbers, paths, channels):
    """(number, image), where an image that cannot be decoded has no pixel."""
    paths = tf.constant(paths)
    nothing = tf.zeros((0, 0, channels), tf.uint8)

    def one(number):
        image = tf.data.Dataset.from_tensors(number).map(lambda i: (i, _decode(paths[i], channels))).ignore_errors()
        return image.concatenate(tf.data.Dataset.from_tensors((number, nothing))).take(1)

    return numbers.interleave(one, _OPEN_AT_ONCE, 1, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def _decode(path, channels):
    image = tf.io.decode_image(tf.io.read_file(path), channels=3, expand_animations=False)
    image = tf.ensure_shape(image, (None, None, 3))
    return image if channels == 3 else tf.image.rgb_to_grayscale(image)  # not every format decodes to one channel


def _cannot_decode(path):
    return (
        f"Cannot decode {path} : a whole JPEG, PNG, BMP or GIF file is expected. Get it again, remove it, "
        "or set `on_bad_image` to skip."
    )


def center_square(image: tf.Tensor) -> tf.Tensor:
    """The largest square in the middle of an image `(height, width, channels)`."""
    return center_crop(image, 1, 1)


def center_crop(image: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """The largest part in the middle of an image that has the proportions height : width."""
    full = tf.shape(image)
    cut_height = tf.minimum(full[0], tf.maximum(full[1] * height // width, 1))
    cut_width = tf.minimum(full[1], tf.maximum(full[0] * width // height, 1))
    top, left = (full[0] - cut_height) // 2, (full[1] - cut_width) // 2
    return image[top : top + cut_height, left : left + cut_width]


def resize(image: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """A uint8 image as float32 in [0, 1] of the given size; area by area where it shrinks."""
    image = tf.image.resize(image, (height, width), antialias=True)
    return tf.clip_by_value(image / 255.0, 0.0, 1.0)
