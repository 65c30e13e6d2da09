"""Decodes image files in a `tf.data.Dataset`, with errors that name the file."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from keras_provlae.datasets.folder_files import shown
from keras_provlae.datasets.rare_formats import PNG, decode_rare
from keras_provlae.lazy_tensorflow import tf
from keras_provlae.messages import say

_ON_BAD_IMAGE = ("error", "skip")
_END = -1  # marks the end, after the last index
_JPEG = b"\xff\xd8\xff"
_PLAIN_PNG = r"\CPNG\r\n\x1a\n\C{16}[\x01-\x08][\x00\x02\x03]\C{11}IDAT"  # bits, color type; no chunk before the pixels
_HEAD = 2**16  # bytes of a PNG searched for transparency; pixels start well before


class Decoding(NamedTuple):
    """Settings for decoding image files to uint8 `(height, width, channels)`."""

    channels: int = 3  # or 1
    background: tuple[float, float, float] = (1.0, 1.0, 1.0)  # color behind transparent pixels, in [0, 1]
    bits: int | None = None  # significant bits of 16-bit values; see `decode_rare`


def check_on_bad_image(on_bad_image: str) -> None:
    """Checks that the argument is `"error"` or `"skip"`."""
    if on_bad_image not in _ON_BAD_IMAGE:
        raise ValueError(f"`on_bad_image` must be one of {_ON_BAD_IMAGE}. Received: on_bad_image={on_bad_image!r}.")


def good_images(paths: list[str], how: Decoding, on_bad_image: str) -> list[str]:
    """Returns the paths to use: all, or with `"skip"` those that can be decoded.

    Args:
        paths: Paths of images.
        how: How to decode them.
        on_bad_image: `"error"`: returns all without a check. `"skip"`: decodes each file once and warns how many are
            skipped.

    Raises:
        ValueError: If `on_bad_image` is unknown, or no image can be decoded.
    """
    check_on_bad_image(on_bad_image)
    if on_bad_image == "error":
        return paths
    if len(paths) > 10_000:
        say(f"Checking {len(paths):,} images ...")
    steps = _decoded(tf.data.Dataset.range(len(paths)), paths, how).map(lambda step, image: (step[2], tf.size(image)))
    good = [paths[number] for number, size in steps.as_numpy_iterator() if size]
    bad = sorted({*paths} - {*good})
    if not good:
        raise ValueError(
            f"At least one image must be decodable. Received: {len(paths)} bad images, "
            f"such as {shown(bad[0])} ({_reason(bad[0], how)})."
        )
    if bad:
        more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
        warnings.warn(
            f"{len(bad)} of {len(paths)} images cannot be decoded and are skipped: "
            f"{', '.join(map(shown, bad[:3]))}{more}. The first: {_reason(bad[0], how)}.",
            stacklevel=3,
        )
    return good


def decode_one(path: str, how: Decoding) -> np.ndarray:
    """Decodes one file to uint8 `(height, width, channels)`.

    Raises:
        ValueError: If decoding fails; the message gives the path.
    """
    try:
        image = _decode(os.fsencode(path), how).numpy()
    except (tf.errors.OpError, UnicodeDecodeError):  # TensorFlow raises the latter for a non-UTF-8 path
        image = np.zeros(0)
    if not image.size:
        raise ValueError(_cannot_decode(path, how))
    return image


def load_images(
    numbers: tf.data.Dataset, paths: Sequence[str], how: Decoding, prepare: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
) -> tf.data.Dataset:
    """Loads images by index, in the order of the indices.

    A file that cannot be decoded ends the iteration with an `InvalidArgumentError` that names it.

    Args:
        numbers: A data set of int64 scalars, indices into `paths`.
        paths: Paths of images.
        how: How to decode them.
        prepare: Maps the uint8 image `(height, width, channels)` and the printable path, both tensors, to the final
            image.

    Returns:
        A `tf.data.Dataset` of `(index, prepared image)`.
    """
    names = tf.constant(list(map(shown, paths)))

    def message(number):
        return _cannot_decode(paths[number], how)

    @tf.autograph.experimental.do_not_convert
    def checked(expected, decoded):
        (place, previous, number), image = tf.unstack(decoded[0]), decoded[1]
        complete = place == expected  # else the previous image was dropped
        good = complete & ((tf.size(image) > 0) | (number == _END))
        bad = tf.where(complete, number, previous)
        error = tf.cond(good, lambda: "", lambda: tf.numpy_function(message, [bad], tf.string))
        with tf.control_dependencies([tf.debugging.Assert(good, [error])]):
            return tf.identity(expected) + 1, (number, image)

    ds = _decoded(numbers, paths, how).scan(tf.constant(0, tf.int64), checked)
    return ds.filter(lambda number, image: number != _END).map(
        lambda number, image: (number, prepare(image, names[number])),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )


def _decoded(numbers, paths, how):
    """Decodes images by index, and appends an end marker. Bad files are dropped or come out with no pixels.

    Yields `(step, image)`. The int64 step `(position, previous index, index)` tells which image was dropped before it.
    AutoGraph is off: it is not needed, and would take longer than everything else here.
    """
    paths = tf.constant(list(map(os.fsencode, paths)))  # bytes: paths may not be UTF-8
    nothing = tf.zeros((0, 0, how.channels), tf.uint8)

    @tf.autograph.experimental.do_not_convert
    def placed(state, number):
        place, previous = tf.unstack(state)
        return tf.stack([place + 1, number]), tf.stack([place, previous, number])

    @tf.autograph.experimental.do_not_convert
    def decode(step):
        return step, tf.cond(step[2] == _END, lambda: nothing, lambda: _decode(paths[step[2]], how))

    ds = numbers.concatenate(tf.data.Dataset.from_tensors(tf.constant(_END, tf.int64)))
    ds = ds.scan(tf.constant([0, _END], tf.int64), placed)
    return ds.map(decode, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).ignore_errors()


def _decode(path, how):
    """Decodes one file in TensorFlow, or by `decode_rare`, whose failures come out with no pixels."""
    content = tf.io.read_file(path)

    def rare(content):
        try:
            return decode_rare(content if isinstance(content, bytes) else content.item(), how.bits)
        except ValueError:
            return np.zeros((0, 0, 4), "uint8")

    image = tf.switch_case(
        _kind(content),
        [
            lambda: tf.io.decode_image(content, channels=3, expand_animations=False),
            lambda: _over(how.background, tf.io.decode_png(content, channels=4)),
            lambda: _over(how.background, tf.numpy_function(rare, [content], tf.uint8)),
        ],
    )
    image = tf.ensure_shape(image, (None, None, 3))
    return image if how.channels == 3 else tf.image.rgb_to_grayscale(image)  # some formats cannot decode to gray


def _kind(content):
    """Returns 0 for JPEG and opaque PNG of at most 8 bits, 1 for such PNG with transparency, 2 for any other file."""

    def of_other():
        start = tf.strings.join([tf.strings.substr(content, 0, 26), bytes(26)])  # a file may be shorter
        depth, color_type = (tf.strings.substr(start, place, 1) for place in (24, 25))
        before_pixels = tf.strings.regex_replace(tf.strings.substr(content, 0, _HEAD), r"IDAT\C*", "", False)
        transparent = (color_type == b"\x04") | (color_type == b"\x06")
        transparent |= tf.strings.regex_full_match(before_pixels, r"\C*tRNS\C*")
        known = (tf.strings.substr(start, 0, len(PNG)) == PNG) & (depth != b"\x10")
        return tf.where(known, tf.cast(transparent, tf.int32), 2)

    plain = tf.strings.substr(content, 0, len(_JPEG)) == _JPEG
    plain |= tf.strings.regex_full_match(tf.strings.substr(content, 0, 41), _PLAIN_PNG)
    return tf.cond(plain, lambda: tf.constant(0), of_other)


def _over(background, image):
    """Blends an RGBA image with a background."""
    color, alpha = tf.cast(image[..., :3], tf.float32), tf.cast(image[..., 3:], tf.float32) / 255.0
    return tf.cast(tf.round(alpha * color + (1.0 - alpha) * 255.0 * tf.constant(background, tf.float32)), tf.uint8)


def _cannot_decode(path, how):
    return f"Cannot decode {shown(path)} : {_reason(path, how)}. Replace it, remove it, or set `on_bad_image` to skip."


def _reason(path, how):
    """Explains why a file cannot be decoded."""
    try:
        with open(path, "rb") as file:
            content = file.read()
        if not content:
            return "it is empty"
        if content.startswith((_JPEG, PNG)):
            tf.io.decode_image(content, expand_animations=False)
        if _kind(content) == 2:
            decode_rare(content, how.bits)
    except OSError as error:
        return error.strerror
    except tf.errors.OpError as error:
        return re.sub(r"^{{.*?}} | \[Op:\w+\]$", "", error.message).rstrip(".")
    except ValueError as error:
        return str(error)
    return "it can be decoded now, but could not before"


def center_square(image: tf.Tensor) -> tf.Tensor:
    """Crops the largest centered square from an image `(height, width, channels)`."""
    return center_crop(image, 1, 1)


def center_crop(image: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Crops the largest centered part of an image with the aspect ratio height : width."""
    full = tf.shape(image)
    cut_height = tf.minimum(full[0], tf.maximum(full[1] * height // width, 1))
    cut_width = tf.minimum(full[1], tf.maximum(full[0] * width // height, 1))
    top, left = (full[0] - cut_height) // 2, (full[1] - cut_width) // 2
    return image[top : top + cut_height, left : left + cut_width]


def resize(image: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Resizes a uint8 image to float32 in [0, 1], with antialiasing."""
    image = tf.image.resize(image, (height, width), antialias=True)
    return tf.clip_by_value(image / 255.0, 0.0, 1.0)
