"""The operations that images of ground truths are drawn with, in NumPy and in TensorFlow.

A renderer is written once, on one of these two classes. TensorFlow draws inside a graph, on all processors; NumPy draws
where TensorFlow is not installed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keras_provlae.lazy_tensorflow import tf


class NumPy:
    """The operations on NumPy arrays."""

    @staticmethod
    def constant(values: Any, dtype: str) -> np.ndarray:
        """An array of constant values."""
        return np.asarray(values, dtype)

    @staticmethod
    def cast(x: np.ndarray, dtype: str) -> np.ndarray:
        """The values as another type."""
        return x.astype(dtype)

    @staticmethod
    def gather(table: np.ndarray, index: np.ndarray) -> np.ndarray:
        """Rows of a table: `table[index]`."""
        return table[index]

    @staticmethod
    def clip(x: np.ndarray, low: int, high: int) -> np.ndarray:
        """The values, within bounds."""
        return np.clip(x, low, high)

    @staticmethod
    def sum(x: np.ndarray, axis: int) -> np.ndarray:
        """Sum over an axis, in the type of the values."""
        return np.sum(x, axis, dtype=x.dtype)

    @staticmethod
    def concat(parts: Sequence[np.ndarray], axis: int) -> np.ndarray:
        """Arrays beside one another."""
        return np.concatenate(parts, axis)

    @staticmethod
    def matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Product of matrices, by batch."""
        return a @ b

    @staticmethod
    def reshape(x: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        """The values in another shape."""
        return x.reshape(shape)

    @staticmethod
    def block_means(images: np.ndarray, times: int) -> np.ndarray:
        """Means of blocks of `times x times` pixels."""
        n, height, width, channels = images.shape
        blocks = images.reshape(n, height // times, times, width // times, times, channels)
        return blocks.mean(axis=(2, 4), dtype=images.dtype)

    @staticmethod
    def read(function: Callable, index: np.ndarray, dtype: Any, shape: Sequence[int]) -> np.ndarray:
        """Images that a Python function looks up."""
        return function(index)


class TensorFlow:
    """The same operations on TensorFlow's tensors, eager or in a graph."""

    @staticmethod
    def constant(values: Any, dtype: str) -> tf.Tensor:
        """A tensor of constant values."""
        return tf.constant(values, dtype)

    @staticmethod
    def cast(x: tf.Tensor, dtype: str) -> tf.Tensor:
        """The values as another type."""
        return tf.cast(x, dtype)

    @staticmethod
    def gather(table: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
        """Rows of a table."""
        return tf.gather(table, index)

    @staticmethod
    def clip(x: tf.Tensor, low: int, high: int) -> tf.Tensor:
        """The values, within bounds."""
        return tf.clip_by_value(x, low, high)

    @staticmethod
    def sum(x: tf.Tensor, axis: int) -> tf.Tensor:
        """Sum over an axis, in the type of the values."""
        return tf.reduce_sum(x, axis)

    @staticmethod
    def concat(parts: Sequence[tf.Tensor], axis: int) -> tf.Tensor:
        """Tensors beside one another."""
        return tf.concat(parts, axis)

    @staticmethod
    def matmul(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
        """Product of matrices, by batch."""
        return tf.matmul(a, b)

    @staticmethod
    def reshape(x: tf.Tensor, shape: Sequence[int]) -> tf.Tensor:
        """The values in another shape."""
        return tf.reshape(x, shape)

    @staticmethod
    def block_means(images: tf.Tensor, times: int) -> tf.Tensor:
        """Means of blocks of `times x times` pixels."""
        return tf.nn.avg_pool2d(images, times, times, "VALID")

    @staticmethod
    def read(function: Callable, index: tf.Tensor, dtype: Any, shape: Sequence[int]) -> tf.Tensor:
        """Images that a Python function looks up, with one call per batch."""
        return tf.ensure_shape(tf.numpy_function(function, [index], dtype), (None, *shape))
