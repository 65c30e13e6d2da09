"""Images that are kept, in memory or mapped from a file, as the images of a grid of factors."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_provlae.datasets.checks import check_channels


def render_rows(
    read: Callable[[np.ndarray], np.ndarray], sizes: Sequence[int], image_shape: Sequence[int], dtype: Any
) -> Callable[[tf.Tensor], tf.Tensor]:
    """A `render` for images that are kept: one Python call per batch.

    Args:
        read: Takes int64 numbers `(batch,)` in the grid, returns images `(batch, height, width, channels)`.
        sizes: Size of each factor.
        image_shape: `(height, width, channels)`.
        dtype: What `read` returns: uint8 is divided by 255, Boolean and floats are taken as they are.

    Returns:
        A function of int32 factors `(batch, factors)`, as `GroundTruth` takes it.
    """
    strides = np.append(np.cumprod(sizes[:0:-1])[::-1], 1).astype("int64")

    def render(factors):
        index = tf.reduce_sum(tf.cast(factors, tf.int64) * strides, axis=1)
        images = tf.ensure_shape(tf.numpy_function(read, [index], dtype), (None, *image_shape))
        return tf.cast(images, tf.float32) / (255.0 if dtype == np.uint8 else 1.0)

    return render


def checked_images(images: Any, data_format: str | None = None) -> np.ndarray:
    """Images `(n, height, width, channels)`, uint8 or floats in [0, 1]; the same array where it is one already."""
    images = images if isinstance(images, np.ndarray) else np.asarray(images)
    if images.ndim == 3:
        images = images[..., np.newaxis]
    if images.ndim != 4 or not images.size:
        raise ValueError(f"`images` must be (n, height, width, channels). Received: shape {images.shape}.")
    check_channels(images.shape, data_format)
    if images.dtype not in (np.uint8, np.bool_, np.float16, np.float32, np.float64):
        raise TypeError(f"`images` must be uint8, floats or Booleans. Received: {images.dtype}.")
    if np.issubdtype(images.dtype, np.floating):
        low, high = images.min(), images.max()
        if not (low >= 0 and high <= 1):  # nan is neither
            raise ValueError(f"Pixels must lie in [0, 1]; divide by 255? Received: {low} .. {high}.")
    return images


def arranged(rows: int, factors: Any, names: Sequence[str]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Where the images of a full grid are.

    Args:
        rows: Number of images.
        factors: Array or rows `(rows, factors)` of the values of the factors, in any order.
        names: Name of each factor.

    Returns:
        `(values, row_of)`: {name: its values in ascending order}, and int64 `(rows,)`: the row of each point of the
        grid.

    Raises:
        ValueError: If shapes do not agree, or a combination is not there exactly once.
    """
    if not len(names) or len(set(names)) != len(names):
        raise ValueError(f"`names` must have a name for each factor, no two the same. Received: {list(names)}.")
    shape = np.shape(factors)
    if shape != (rows, len(names)):
        raise ValueError(
            "`factors` must be (n, factors), with a row for each image and a column for each name. "
            f"Received: factors {shape}, {rows} images, names {list(names)}."
        )
    columns = factors.T if isinstance(factors, np.ndarray) else zip(*factors, strict=True)  # each of its own type
    values, numbers = zip(*(np.unique(column, return_inverse=True) for column in columns), strict=True)
    sizes = tuple(map(len, values))
    if math.prod(sizes) > 2 * rows:  # far from a grid, and perhaps too many to count
        raise ValueError(_not_a_grid(names, values, None, rows))
    place = np.ravel_multi_index(numbers, sizes)
    count = np.bincount(place, minlength=math.prod(sizes))
    if (count != 1).any():
        raise ValueError(_not_a_grid(names, values, count, rows))
    row_of = np.empty(rows, "int64")
    row_of[place] = np.arange(rows)
    return dict(zip(names, values, strict=True)), row_of


def _not_a_grid(names, values, count, rows):
    sizes = tuple(map(len, values))
    grid = " x ".join(f"{len(value)} {name}" for name, value in zip(names, values, strict=True))
    message = f"`factors` must have every combination exactly once: {grid} = {math.prod(sizes)}. Received: {rows} rows"
    if count is not None:
        place = int(np.argmax(count != 1))
        at = np.unravel_index(place, sizes)
        found = ", ".join(f"{name} {value[i]}" for name, value, i in zip(names, values, at, strict=True))
        message += f", {count[place]} of them with {found}"
    return f"{message}. For images that are no grid give `metrics.evaluate` the pair (images, factors)."
