"""Batches of a ground truth without TensorFlow, for `fit` on every backend."""

import functools
from typing import Any

import keras
import numpy as np

from keras_provlae.datasets.passes import Passes


class GroundTruthBatches(keras.utils.PyDataset):
    """The stream of `GroundTruth.batches`: item k is batch k of the epoch, or of the endless stream.

    Iterating over it, or an epoch of `fit`, moves on to the next epoch.

    Args:
        truth: A `GroundTruth`.
        rows: int64 array: the grid indices of the images.
        passes: The order of the stream.
        with_factors: Whether to give `(images, factors)` instead of images.
        repeat: Whether the stream has no end.
    """

    shuffles_itself = True  # `fit` would draw an order of the batches

    def __init__(self, truth: Any, rows: np.ndarray, passes: Passes, with_factors: bool, repeat: bool):
        super().__init__()
        self.truth, self.rows, self.passes = truth, rows, passes
        self.with_factors, self.repeat = with_factors, repeat
        self.epoch, self._skipped = divmod(passes.start_step, passes.steps)
        self._has_begun = False
        self._order = functools.lru_cache(maxsize=2)(passes.order)

    @property
    def num_batches(self) -> int | None:
        """Batches of this epoch; `None` for a stream without an end."""
        return None if self.repeat else self.passes.steps - self._skipped

    def __len__(self):
        if self.repeat:
            raise TypeError("The stream has no end: pass `steps_per_epoch` to `fit`, or leave out `repeat=True`.")
        return self.num_batches

    def __getitem__(self, index):
        if index < 0 or (not self.repeat and index >= self.num_batches):
            raise IndexError(f"`index` must be in 0 .. {self.num_batches}. Received: {index}.")
        epochs, step = divmod(self._skipped + index, self.passes.steps)
        factors = self.truth.factors(self.rows[self.passes.part(self._order(self.epoch + epochs), step)])
        images = self.truth.images(factors)
        return (images, factors) if self.with_factors else images

    def __iter__(self):
        self.on_epoch_begin()
        yield from super().__iter__()
        self.on_epoch_end()

    def on_epoch_begin(self) -> None:
        """Starts a pass over the epoch."""
        self._has_begun = True

    def on_epoch_end(self) -> None:
        """Moves on to the next epoch; a stream without an end goes on by itself."""
        if self._has_begun and not self.repeat:  # Keras also calls this before the first epoch of `fit`
            self.epoch, self._skipped = self.epoch + 1, 0
        self._has_begun = False
