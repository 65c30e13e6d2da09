"""Data sets with known factors: one image for every combination of factor values."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any, NoReturn, Self

import keras
import numpy as np

from keras_provlae.checks import check_count
from keras_provlae.datasets.array_images import arrange_in_grid, checked_images, render_rows
from keras_provlae.datasets.checks import chosen_seed
from keras_provlae.datasets.index_batches import index_batches
from keras_provlae.datasets.passes import checked_passes
from keras_provlae.datasets.python_batches import GroundTruthBatches
from keras_provlae.datasets.renders import Render, Rows, TensorFlowRender
from keras_provlae.html_table import table
from keras_provlae.lazy_tensorflow import check_tensorflow, tf

_RENDERED_AT_ONCE = 1024  # bounds the memory of `images`


class GroundTruth:
    """A grid of factors with one image per point.

    Images are indexed in grid order, last factor fastest. They are rendered (or read) on demand, with no Python call
    per image: inside TensorFlow, or by NumPy on the JAX and PyTorch backends, where TensorFlow need not be installed.

    Args:
        factor_values: {name: values} with the ordered values of each factor. The methods take and return the index
            of a value, 0 .. size - 1; the values themselves (radians, names) are for display.
        image_shape: `(height, width, channels)`.
        render: A function of TensorFlow operations that maps int32 factors `(batch, factors)` to float32 images
            `(batch, height, width, channels)` in [0, 1]. Wrap NumPy in `tf.numpy_function`. To pickle the ground
            truth, pass a module-level function, not a lambda. It needs TensorFlow on every backend; `from_arrays`
            and the twins do without.
        name: Name of the data, such as `"shapes3d"`.
        source: Origin of the data: `"procedural"`, `"tfds"` or a file name. Metric cards, titles and CSV files show
            name and source.

    Attributes:
        factor_names, factor_sizes, factor_values: Tuples with one entry per factor.
        image_shape, name, source: The arguments.

    Raises:
        TypeError, ValueError: If an argument is invalid, or `render` returns a bad first image.

    Example:
        >>> render = lambda factors: tf.tile(tf.cast(factors[:, :1, None, None], "float32"), (1, 8, 8, 1))
        >>> truth = GroundTruth({"light": [0, 1], "nothing": [0, 1, 2]}, (8, 8, 1), render, "lamp", "procedural")
        >>> len(truth), truth.factors(4), truth.index([1, 1]), float(truth.images([1, 1]).mean())
        (6, array([1, 1]), 4, 1.0)
    """

    def __init__(
        self,
        factor_values: Mapping[str, Sequence | np.ndarray],
        image_shape: Sequence[int],
        render: Callable[[tf.Tensor], tf.Tensor],
        name: str,
        source: str,
    ):
        if not isinstance(factor_values, Mapping):
            raise TypeError(
                f"`factor_values` must be a dict {{name: values}}. Received: {type(factor_values).__name__}."
            )
        self.factor_names = tuple(factor_values)
        self.factor_values = tuple(np.asarray(list(values)) for values in factor_values.values())
        self.factor_sizes = tuple(len(values) for values in self.factor_values)
        if not self.factor_names or 0 in self.factor_sizes:
            raise ValueError(
                "`factor_values` must have at least one factor, and each factor at least one value. "
                f"Received: {dict(zip(self.factor_names, self.factor_sizes, strict=True))}."
            )
        self.image_shape = tuple(map(int, image_shape))
        if len(self.image_shape) != 3 or min(self.image_shape) < 1:
            raise ValueError(f"`image_shape` must be (height, width, channels). Received: {image_shape}.")
        self.name, self.source = name, source
        self._render = render
        first = self.images(np.zeros(len(self.factor_names), "int64"))
        if not 0 <= first.min() <= first.max() <= 1:
            raise ValueError(f"`render` must return images in [0, 1]. Received: {first.min()} .. {first.max()}.")

    @classmethod
    def from_arrays(
        cls,
        images: Any,
        factors: Any,
        names: Sequence[str],
        name: str = "arrays",
        source: str = "arrays",
        data_format: str | None = None,
    ) -> Self:
        """Builds a ground truth from your own images.

        Args:
            images: Array `(n, height, width)` or `(n, height, width, channels)`: uint8 of 0 .. 255, or Booleans or
                floats in [0, 1]. It is not copied, and may be a `numpy.memmap`; TensorFlow holds it until the process
                ends. A pickle contains the array or, for a memory map, the path of its file.
            factors: Array or rows `(n, factors)` of factor values, in any order, with every combination exactly once.
                Values are indexed in ascending order.
            names: Name of each factor.
            name: Name of the data.
            source: Origin of the data.
            data_format: `"channels_last"` accepts images with at most 4 rows and more than 4 channels, which
                otherwise raise as channels first.

        Returns:
            A `GroundTruth`.

        Raises:
            TypeError: If the images are not uint8, Booleans or floats.
            ValueError: If shapes do not match, images look channels first, pixels are outside [0, 1], or the factors
                are not a full grid.

        Example:
            >>> images = np.linspace(0, 1, 6)[:, None, None] * np.ones((8, 8))
            >>> truth = GroundTruth.from_arrays(images, [[v, h] for v in (1, 2) for h in "abc"], ["v", "h"])
            >>> truth.factor_sizes, truth.factor_values[1].tolist()
            ((2, 3), ['a', 'b', 'c'])
        """
        images = checked_images(images, data_format)
        values, row_of = arrange_in_grid(len(images), factors, names)
        sizes = tuple(len(column) for column in values.values())
        render = Render(render_rows, Rows(images, row_of), sizes, images.shape[1:], images.dtype)
        return cls(values, images.shape[1:], render, name, source)

    def __len__(self) -> int:
        return math.prod(self.factor_sizes)

    def __getitem__(self, index: Any) -> NoReturn:
        raise TypeError(
            "A GroundTruth cannot be indexed. Use `truth.images(truth.factors(index))`, "
            "or `truth.tf_dataset()` for batches."
        )

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_compiled"}

    def __str__(self) -> str:
        return f"{self.name} {self.source}"

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name} {size}" for name, size in zip(self.factor_names, self.factor_sizes, strict=True))
        return f"GroundTruth({self}: {len(self):,} images {self.image_shape}; {sizes})"

    def _repr_html_(self):
        """Returns a table of the factors for notebooks."""
        columns = zip(self.factor_names, self.factor_sizes, self.factor_values, strict=True)
        rows = [[str(name), f"{size:,}", _shown(values)] for name, size, values in columns]
        height, width, channels = self.image_shape
        about = f"{self}: {len(self):,} images of {height} x {width} x {channels}"
        return f"<p>{escape(about)}</p>" + table(["factor", "values", ""], rows, numbers=[1])

    def factors(self, index: Any) -> np.ndarray:
        """Converts grid indices to factors.

        Args:
            index: Int or integer array `(...)`, 0 .. len - 1.

        Returns:
            int64 array `(..., factors)`.

        Raises:
            ValueError: If an index is not an integer or outside the grid.
        """
        index = _integers("index", index)
        if index.size and (index.min() < 0 or index.max() >= len(self)):
            raise ValueError(f"`index` must be in 0 .. {len(self) - 1}. Received: {index.min()} .. {index.max()}.")
        return np.stack(np.unravel_index(index, self.factor_sizes), axis=-1).astype("int64")

    def index(self, factors: Any) -> np.ndarray | int:
        """Converts factors to grid indices, the inverse of `factors`.

        Args:
            factors: Integer array `(..., factors)`.

        Returns:
            int64 array `(...)`; an int for one row.

        Raises:
            ValueError: If a factor is no integer or out of its range.
        """
        factors = self._checked_factors(factors)
        index = np.ravel_multi_index(np.moveaxis(factors, -1, 0), self.factor_sizes)
        return int(index) if factors.ndim == 1 else index.astype("int64")

    def images(self, factors: Any) -> np.ndarray:
        """Renders the images of the given factors.

        Args:
            factors: Integer array `(n, factors)`, or `(factors,)` for one image.

        Returns:
            float32 array `(n, height, width, channels)` in [0, 1], or one image.

        Raises:
            ValueError: If a factor is no integer or out of its range.
        """
        factors = self._checked_factors(factors)
        rows = factors.reshape(-1, len(self.factor_names)).astype("int32")
        images = np.empty((len(rows), *self.image_shape), "float32")
        for start in range(0, len(rows), _RENDERED_AT_ONCE):
            part = slice(start, start + _RENDERED_AT_ONCE)
            images[part] = self._drawn_at_once(rows[part])
        return images.reshape(*factors.shape[:-1], *self.image_shape)

    def sample(self, n: int, seed: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Draws images uniformly without replacement.

        Args:
            n: Int 1 .. len.
            seed: Int or `None`. The same seed draws the same images; `None` draws a seed from Python's generator.

        Returns:
            `(images, factors)`: float32 `(n, height, width, channels)` and int64 `(n, factors)`.

        Raises:
            TypeError, ValueError: If `n` or `seed` is invalid.
        """
        factors = self.factors(self._drawn("n", n, chosen_seed(seed)))
        return self.images(factors), factors

    def tf_dataset(
        self,
        batch_size: int = 100,
        seed: int | None = None,
        with_factors: bool = False,
        subset: Any = None,
        shuffle: bool = True,
        start_step: int = 0,
        repeat: bool = False,
        drop_remainder: bool = False,
        shard: Sequence[int] | None = None,
    ) -> tf.data.Dataset:
        """Returns a `tf.data.Dataset` of the images, shuffled for `fit` or in grid order for metrics.

        Each epoch has every image once, in a new order drawn uniformly from all orders. The stream depends only on
        `seed`. Each iteration over the data set is the next epoch, or with `repeat=True` the whole endless stream.

        Args:
            batch_size: Int >= 1. Images per batch, of all processes together; the last of an epoch may be smaller.
            seed: Int or `None`. The same seed gives the same stream; `None` draws a seed from Python's generator, as
                set by `keras.utils.set_random_seed`.
            with_factors: Bool. Yields `(images, factors)` instead of images.
            subset: Images to use: integer indices, a Boolean mask, a slice, or an int for that many images drawn with
                `seed`. `None` is all.
            shuffle: Bool. `False` keeps the order of the grid or of `subset`.
            start_step: Int >= 0. Number of batches to skip, at no cost; pass `model.iteration` to resume a training.
            repeat: Bool. Repeats endlessly, for `fit` with `steps_per_epoch`. A second iteration is the same stream;
                with `.repeat()` it would depend on how far the first was prefetched.
            drop_remainder: Bool. Drops the last batch of an epoch if it is smaller, since several devices cannot
                always split it.
            shard: `(index, count)` of this process, such as `(0, 2)` for the first of two: reads only its part of
                every batch. The parts of a step, joined, are the batch that a single process reads at that step, so
                all processes need the same seed. `count` must divide `batch_size`.

        Returns:
            A `tf.data.Dataset` of float32 `(batch, height, width, channels)` in [0, 1]; with factors also
            int64 `(batch, factors)`.

        Raises:
            TypeError, ValueError: If an argument is invalid, or `shard` is given without a `seed`.

        Example:
            >>> from keras_provlae.datasets import scenes
            >>> ds = scenes().tf_dataset(batch_size=100, seed=0)
            >>> ds.element_spec.shape, len(ds)
            (TensorShape([None, 64, 64, 3]), 492)
        """
        check_tensorflow("`GroundTruth.tf_dataset`")
        seed = chosen_seed(seed, shard)
        rows = tf.constant(self._rows(subset, seed), tf.int64)

        def load(index):
            factors = tf.transpose(tf.unravel_index(tf.gather(rows, index), tf.constant(self.factor_sizes, tf.int64)))
            images = self._rendered(tf.cast(factors, tf.int32))
            return (images, tf.ensure_shape(factors, (None, len(self.factor_names)))) if with_factors else images

        ds = index_batches(len(rows), batch_size, seed, shuffle, start_step, repeat, drop_remainder, shard)
        return ds.map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(tf.data.AUTOTUNE)

    def batches(
        self,
        batch_size: int = 100,
        seed: int | None = None,
        with_factors: bool = False,
        subset: Any = None,
        shuffle: bool = True,
        start_step: int = 0,
        repeat: bool = False,
        drop_remainder: bool = False,
        shard: Sequence[int] | None = None,
    ) -> keras.utils.PyDataset:
        """Returns the batches of `tf_dataset`, in the same order, as a `keras.utils.PyDataset` of NumPy arrays.

        On JAX and PyTorch it needs no TensorFlow. On TensorFlow use `tf_dataset`, which draws on all processors while
        a step runs. If an epoch of `fit` is not a pass over the images (`steps_per_epoch`), pass `repeat=True`.

        Args:
            batch_size, seed, with_factors, subset, shuffle, start_step, repeat, drop_remainder, shard: As `tf_dataset`.

        Returns:
            A `keras.utils.PyDataset` of float32 `(batch, height, width, channels)` in [0, 1]; with factors also
            int64 `(batch, factors)`. Each iteration over it, and each epoch of `fit`, is the next epoch, or with
            `repeat=True` the endless stream.

        Raises:
            TypeError, ValueError: As `tf_dataset`.

        Example:
            >>> from keras_provlae.datasets import scenes
            >>> batches = scenes().batches(batch_size=100, seed=0)
            >>> batches[0].shape, len(batches)
            ((100, 64, 64, 3), 492)
        """
        seed = chosen_seed(seed, shard)
        rows = self._rows(subset, seed)
        passes = checked_passes(len(rows), batch_size, seed, shuffle, start_step, drop_remainder, shard)
        return GroundTruthBatches(self, rows, passes, with_factors, repeat)

    def downscale(self, times: int) -> GroundTruth:
        """Returns a ground truth with smaller images, whose pixels are means of blocks.

        Args:
            times: Int >= 1 that divides height and width.

        Returns:
            A `GroundTruth` with the new size in its name; `self` for 1.

        Raises:
            TypeError, ValueError: If `times` is invalid.
        """
        check_count("times", times)
        if times == 1:
            return self
        height, width, channels = self.image_shape
        if height % times or width % times:
            raise ValueError(f"`times` must divide height and width, {height} and {width}. Received: times={times}.")
        small = (height // times, width // times, channels)

        values = dict(zip(self.factor_names, self.factor_values, strict=True))
        name = f"{self.name.removesuffix(f' {height}x{width}')} {small[0]}x{small[1]}"  # not two sizes
        kind = Render if self._in_numpy else TensorFlowRender
        return GroundTruth(values, small, kind(_block_means, self._render, times), name, self.source)

    @property
    def _in_numpy(self):
        """Whether `render` draws NumPy arrays too; a function of your own takes tensors only."""
        return getattr(self._render, "in_numpy", False)

    def _drawn_at_once(self, rows):
        if self._in_numpy and keras.backend.backend() != "tensorflow":  # TensorFlow may not be there
            return self._render(rows)
        check_tensorflow("A `render` of TensorFlow operations")
        with tf.device("CPU:0"):
            return self._compiled(tf.constant(rows)).numpy()

    @functools.cached_property
    def _compiled(self):
        """Compiled `render`, a concrete function: TensorFlow would warn about retracing if there are many."""
        signature = [tf.TensorSpec((None, len(self.factor_names)), tf.int32)]
        return tf.function(self._rendered, signature, autograph=False).get_concrete_function()

    def _rendered(self, factors):
        images = self._render(factors)
        if images.dtype != tf.float32:
            raise TypeError(f"`render` must return float32 images. Received: {images.dtype.name}.")
        return tf.ensure_shape(images, (None, *self.image_shape))

    def _checked_factors(self, factors):
        factors = _integers("factors", factors)
        if factors.ndim == 0 or factors.shape[-1] != len(self.factor_names):
            raise ValueError(
                f"`factors` must have {len(self.factor_names)} columns, {', '.join(self.factor_names)}. "
                f"Received: shape {factors.shape}."
            )
        for column, (name, size) in enumerate(zip(self.factor_names, self.factor_sizes, strict=True)):
            given = factors[..., column]
            if given.size and (given.min() < 0 or given.max() >= size):
                raise ValueError(
                    f"The factor {name!r} must be in 0 .. {size - 1}. Received: {given.min()} .. {given.max()}."
                )
        return factors

    def _drawn(self, name, n, seed):
        check_count(name, n)
        if n > len(self):
            raise ValueError(f"`{name}` must be at most {len(self)}, the number of images. Received: {name}={n}.")
        # `name` separates the streams: a training subset differs from a test `sample` with the same seed
        return np.random.default_rng([len(name), seed]).choice(len(self), n, replace=False)

    def _rows(self, subset, seed):
        if subset is None:
            return np.arange(len(self))
        if isinstance(subset, int | np.integer) and not isinstance(subset, bool):
            return self._drawn("subset", int(subset), seed)
        everything = np.arange(len(self))
        rows = everything[subset] if isinstance(subset, slice) else np.asarray(subset)
        if rows.shape == everything.shape and rows.dtype == bool:
            rows = everything[rows]
        if rows.size and not (np.issubdtype(rows.dtype, np.integer) and 0 <= rows.min() <= rows.max() < len(self)):
            raise ValueError(
                f"`subset` must be indices 0 .. {len(self) - 1}, a mask of {len(self)} Booleans, a slice or an int. "
                f"Received: {subset!r}."
            )
        if rows.ndim != 1 or not rows.size:
            raise ValueError(f"`subset` must be 1-D and select at least one image. Received: shape {rows.shape}.")
        return rows


def _shown(values, most=6):
    """Formats the values of a factor, abbreviated if there are many."""
    chosen = values if len(values) <= most else [*values[: most - 2], "..", values[-1]]
    return ", ".join(f"{value:.4g}" if isinstance(value, np.floating) else str(value) for value in chosen)


def _block_means(ops, render, times):
    return lambda factors: ops.block_means(render(factors), times)


def _integers(name, numbers):
    numbers = np.asarray(numbers)
    if numbers.size and not np.issubdtype(numbers.dtype, np.integer):
        raise ValueError(f"`{name}` must be integers. Received: {numbers.dtype}.")
    return numbers.astype("int64")
