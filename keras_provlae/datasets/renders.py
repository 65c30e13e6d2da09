"""Picklable functions that draw the images of a ground truth."""

import mmap
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf


class Render:
    """A `render` for `GroundTruth` that is pickled as its recipe, not as its constants and closures.

    Args:
        make: A module-level function that takes `arguments` and returns a function of int32 factors
            `(batch, factors)`.
        *arguments: Picklable arguments of `make`.
    """

    def __init__(self, make: Callable[..., Callable[[tf.Tensor], tf.Tensor]], *arguments: Any):
        self._make, self._arguments = make, arguments
        self._render = make(*arguments)

    def __call__(self, factors: tf.Tensor) -> tf.Tensor:
        """Returns float32 images `(batch, height, width, channels)` of int32 factors `(batch, factors)`."""
        return self._render(factors)

    def __reduce__(self):
        return type(self), (self._make, *self._arguments)


class Rows:
    """Looks up rows of an array. The pickle of a memory map holds its file path and offset instead of the array.

    Args:
        images: Array `(rows, ...)`.
        row_of: int64 array: the row of each index; `None` if they are the same.
    """

    def __init__(self, images: np.ndarray, row_of: np.ndarray | None = None):
        self.images, self.row_of = images, row_of

    def __call__(self, index: np.ndarray) -> np.ndarray:
        """Returns the rows `(len(index), ...)`."""
        return self.images[index if self.row_of is None else self.row_of[index]]

    def __reduce__(self):
        place = _place_in_file(self.images)
        if place is None:
            return type(self), (np.asarray(self.images), self.row_of)
        return _mapped_rows, (type(self), place, self.row_of)


def _mapped_rows(cls, place, row_of):
    return cls(np.memmap(**place, mode="r"), row_of)


def _place_in_file(images):
    """Returns the `np.memmap` arguments of a contiguous, memory-mapped array; `None` for any other array."""
    mapped = images
    while isinstance(mapped, np.ndarray) and not isinstance(mapped.base, mmap.mmap):
        mapped = mapped.base
    # mode "c" keeps changes in memory only
    if not isinstance(mapped, np.memmap) or mapped.filename is None or mapped.mode == "c":
        return None
    if not images.flags.c_contiguous:
        return None
    within = images.__array_interface__["data"][0] - mapped.__array_interface__["data"][0]
    return {
        "filename": mapped.filename,
        "dtype": images.dtype,
        "shape": images.shape,
        "offset": mapped.offset + within,
    }
