"""Metrics of the models other than `keras.metrics.Mean`."""

import keras
from keras import ops


class LastValue(keras.metrics.Metric):
    """The value of the last step; `keras.metrics.Mean` would average over the epoch."""

    def __init__(self, name):
        super().__init__(name=name)
        self.value = self.add_variable((), initializer="zeros", name="value", aggregation="mean")

    def update_state(self, value):
        self.value.assign(ops.cast(value, self.dtype))

    def result(self):
        return self.value + 0.0  # a copy: the variable itself would show later values
