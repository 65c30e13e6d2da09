"""Images stored in an array, in memory or memory-mapped, as the images of a grid of factors."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keras_provlae.datasets.checks import check_channels


def render_rows(
    ops: Any, read: Callable[[np.ndarray], np.ndarray], sizes: Sequence[int], image_shape: Sequence[int], dtype: Any
) -> Callable[[Any], Any]:
    """Builds a `render` that looks images up, with one Python call per batch.

    Args:
        ops: `operations.NumPy` or `operations.TensorFlow`.
        read: Takes int64 grid indices `(batch,)`, returns images `(batch, height, width, channels)`.
        sizes: Number of values of each factor.
        image_shape: `(height, width, channels)`.
        dtype: Type of the images; uint8 is divided by 255, Booleans and floats are cast only.

    Returns:
        A function of int32 factors `(batch, factors)`, for `Render`.
    """
    strides = np.append(np.cumprod(sizes[:0:-1])[::-1], 1).astype("int64")

    def render(factors):
        index = ops.sum(ops.cast(factors, "int64") * strides, axis=1)
        images = ops.read(read, index, dtype, image_shape)
        return ops.cast(images, "float32") / (255.0 if dtype == np.uint8 else 1.0)

    return render


def checked_images(images: Any, data_format: str | None = None) -> np.ndarray:
    """Checks images and returns them as `(n, height, width, channels)`, without a copy if they are an array."""
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
        if not (low >= 0 and high <= 1):  # also true for NaN
            raise ValueError(f"Pixels must be in [0, 1]. Received: {low} .. {high}. Divide by 255?")
    return images


def arrange_in_grid(rows: int, factors: Any, names: Sequence[str]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Finds the row of every point of a full grid of factors.

    Args:
        rows: Number of images.
        factors: Array or rows `(rows, factors)` of factor values, in any order.
        names: Name of each factor.

    Returns:
        `(values, row_of)`: {name: its values in ascending order}, and int64 `(rows,)`: the row of each grid index.

    Raises:
        ValueError: If shapes do not match, or a combination is missing or repeated.
    """
    if not len(names) or len(set(names)) != len(names):
        raise ValueError(f"`names` must have one distinct name per factor. Received: {list(names)}.")
    shape = np.shape(factors)
    if shape != (rows, len(names)):
        raise ValueError(
            "`factors` must be (n, factors), with a row per image and a column per name. "
            f"Received: factors {shape}, {rows} images, names {list(names)}."
        )
    # the columns of a list of rows each keep their own type
    columns = factors.T if isinstance(factors, np.ndarray) else zip(*factors, strict=True)
    values, numbers = zip(*(np.unique(column, return_inverse=True) for column in columns), strict=True)
    sizes = tuple(map(len, values))
    if math.prod(sizes) > 2 * rows:  # far from a grid, and maybe too many points to count
        raise ValueError(_not_a_grid(names, values, None, rows))
    index = np.ravel_multi_index(numbers, sizes)
    count = np.bincount(index, minlength=math.prod(sizes))
    if (count != 1).any():
        raise ValueError(_not_a_grid(names, values, count, rows))
    row_of = np.empty(rows, "int64")
    row_of[index] = np.arange(rows)
    return dict(zip(names, values, strict=True)), row_of


def _not_a_grid(names, values, count, rows):
    sizes = tuple(map(len, values))
    grid = " x ".join(f"{len(value)} {name}" for name, value in zip(names, values, strict=True))
    message = f"`factors` must have every combination exactly once: {grid} = {math.prod(sizes)}. Received: {rows} rows"
    if count is not None:
        first = int(np.argmax(count != 1))
        point = np.unravel_index(first, sizes)
        found = ", ".join(f"{name} {value[i]}" for name, value, i in zip(names, values, point, strict=True))
        message += f", {count[first]} of them with {found}"
    return f"{message}. For images that do not form a grid, pass `metrics.evaluate` the pair (images, factors)."
