"""A log of a training that says what it was trained on."""

import os
from typing import Any

import keras


class CSVLogger(keras.callbacks.CSVLogger):
    """`keras.callbacks.CSVLogger` with a column `data`: what was trained on stands in every line.

    Args:
        filename: Path of the file.
        data: What the images are: a text, or the `GroundTruth` itself.
        separator, append: As `keras.callbacks.CSVLogger`.
    """

    def __init__(self, filename: str | os.PathLike, data: Any, separator: str = ",", append: bool = False):
        super().__init__(filename, separator, append)
        self.data = str(data)

    def on_epoch_end(self, epoch, logs=None):
        logs = {**(logs or {}), "data": self.data}
        if self.keys is None and not any(name.startswith("val_") for name in logs):
            self.keys = sorted(logs)  # Keras would add a column `val_...` for each, `val_data` too
        super().on_epoch_end(epoch, logs)
