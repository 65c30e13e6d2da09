"""Checks at the end of an epoch, for what a step cannot check by itself."""

import math

import keras

from keras_provlae.training.errors import InvalidImagesError, NonFiniteLossError
from keras_provlae.training.graph_checks import LOSS_RULE, require_finite

NO_BATCH_RULE = (
    "The data set gave no batch. Look at what filters it, and at `drop_remainder=True` with fewer images than a batch."
)


class EpochChecks(keras.callbacks.Callback):
    """Stops `fit` and `evaluate` where the data gave no batch, or the loss is not finite.

    Steps check the loss as well, except under XLA.
    """

    async_safe = True  # it may be called from another thread

    _in_fit = False

    def on_train_begin(self, logs=None):
        self._in_fit = True

    def on_train_end(self, logs=None):
        self._in_fit = False

    def on_epoch_end(self, epoch, logs=None):
        self._check(logs)

    def on_test_end(self, logs=None):
        if self._in_fit and logs:
            return  # a validation loss that is not finite is a result
        self._check(logs)

    def _check(self, logs):
        if not logs:
            raise InvalidImagesError(NO_BATCH_RULE)
        if self.model.check_loss is require_finite and not math.isfinite(logs["loss"]):
            raise NonFiniteLossError(LOSS_RULE.format(low=logs["reconstruction"], high=logs["kl"]))
