"""Picklable functions that draw the images of a ground truth."""

from __future__ import annotations

import functools
import mmap
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_provlae.datasets.operations import NumPy, TensorFlow
from keras_provlae.lazy_tensorflow import tf


class Render:
    """A `render` for `GroundTruth` in TensorFlow and in NumPy, pickled as its recipe, not as constants and closures.

    Args:
        make: A module-level function that takes `operations.NumPy` or `operations.TensorFlow`, then `arguments`, and
            returns a function of int32 factors `(batch, factors)`.
        *arguments: Picklable arguments of `make`.
    """

    in_numpy = True  # it draws NumPy arrays as well

    def __init__(self, make: Callable[..., Callable[[Any], Any]], *arguments: Any):
        self._make, self._arguments = make, arguments

    def __call__(self, factors: Any) -> Any:
        """Returns float32 images `(batch, height, width, channels)` of int32 factors `(batch, factors)`.

        NumPy draws arrays, and TensorFlow draws tensors.
        """
        return (self._drawn_by_numpy if isinstance(factors, np.ndarray) else self._drawn_by_tensorflow)(factors)

    @functools.cached_property
    def _drawn_by_numpy(self):
        return self._make(NumPy, *self._arguments)

    @functools.cached_property
    def _drawn_by_tensorflow(self):
        with tf.init_scope():  # constants outside the graph that is being traced, for every graph
            return self._make(TensorFlow, *self._arguments)

    def __reduce__(self):
        return type(self), (self._make, *self._arguments)


class TensorFlowRender(Render):
    """A `Render` of another `render` that takes tensors only."""

    in_numpy = False


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
