"""Functions that draw the images of a ground truth, and how they are pickled."""

import mmap
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf


class Render:
    """A `render` for `GroundTruth` that is pickled as how it is made: its own constants and functions are not.

    Args:
        make: A function of a module; takes `arguments`, returns a function of int32 factors `(batch, factors)`.
        *arguments: Whatever can be pickled.
    """

    def __init__(self, make: Callable[..., Callable[[tf.Tensor], tf.Tensor]], *arguments: Any):
        self._make, self._arguments = make, arguments
        self._render = make(*arguments)

    def __call__(self, factors: tf.Tensor) -> tf.Tensor:
        """Float32 images `(batch, height, width, channels)` of int32 factors `(batch, factors)`."""
        return self._render(factors)

    def __reduce__(self):
        return type(self), (self._make, *self._arguments)


class Rows:
    """Rows of an array by their numbers; pickled with the array or, where that is mapped from a file, with its place.

    Args:
        images: Array `(rows, ...)`.
        row_of: int64 array: the row that each number means; `None` is the number itself.
    """

    def __init__(self, images: np.ndarray, row_of: np.ndarray | None = None):
        self.images, self.row_of = images, row_of

    def __call__(self, numbers: np.ndarray) -> np.ndarray:
        """The rows `(len(numbers), ...)`."""
        return self.images[numbers if self.row_of is None else self.row_of[numbers]]

    def __reduce__(self):
        place = _place_in_file(self.images)
        if place is None:
            return type(self), (np.asarray(self.images), self.row_of)
        return _mapped_rows, (type(self), place, self.row_of)


def _mapped_rows(cls, place, row_of):
    return cls(np.memmap(**place, mode="r"), row_of)


def _place_in_file(images):
    """Where a contiguous array lies in the file that it is mapped from; `None` for any other."""
    mapped = images
    while isinstance(mapped, np.ndarray) and not isinstance(mapped.base, mmap.mmap):
        mapped = mapped.base
    if not isinstance(mapped, np.memmap) or mapped.filename is None or mapped.mode == "c":  # "c" keeps its changes
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
