"""A log of a training that says what it was trained on."""

import csv
import io
import os
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from keras_provlae.folders import check_path, check_writable, replace_text

MISSING = "NA"  # as Keras writes it


class CSVLogger(keras.callbacks.CSVLogger):
    """`keras.callbacks.CSVLogger` with a column `data`, and a column for every name that is ever logged.

    Keras takes the columns from the first epoch. Here a name that turns up later (with `validation_freq=2`, or from a
    callback that starts late) gets a column too, with `NA` above it; `NA` is also what an epoch lacks. The file with
    the new header is written beside the old one and replaces it in one step, so a kill at any moment leaves a whole
    file.

    Args:
        filename: Path of the file; its folder is made.
        data: What the images are: a text, or the `GroundTruth` itself.
        separator: One character between values.
        append: Bool. Go on below what the file has; a last line that a kill cut off is removed. The file must have a
            column for everything that the first epoch of this training logs (the `val_` columns may come later).
            `False` starts the file anew.

    Raises:
        TypeError, ValueError: If an argument is unfit. With `append`, at the start of `fit`, if the file has another
            separator or no column for a value of the model or of the observers before this callback; at the end of
            the first epoch, if it has none for a value of another callback. The file stays as it was.
        OSError: At the start of `fit`, if the file cannot be written.

    Example:
        >>> logger = CSVLogger("history.csv", data="digits", append=True)
    """

    def __init__(self, filename: str | os.PathLike, data: Any, separator: str = ",", append: bool = False):
        super().__init__(check_path("filename", filename), separator, append)
        if not isinstance(separator, str) or len(separator) != 1 or separator.isalnum() or separator in "\"\r\n.+-_'":
            raise ValueError(
                f"`separator` must be one character, none of a number or a name. Received: separator={separator!r}."
            )
        if data is None:
            raise TypeError("`data` must say what the images are, a text or the GroundTruth. Received: data=None.")
        self.data = str(data).encode("utf-8", "backslashreplace").decode()

    def on_train_begin(self, logs=None):
        path = check_path("filename", self.filename)
        if path.exists() and not path.is_file():
            raise ValueError(f"`filename` must be that of a file. Received: {path}, which is none.")
        check_writable("The log", path.parent)
        rows = self._read() if self.append and path.exists() else []
        self.keys = rows[0] if rows else None
        self._is_first = bool(rows)  # the first epoch below what the file has
        if self.keys is not None:
            self._check_header(path)
        if not self.append:
            self._write([])
        elif rows and not path.read_bytes().endswith(b"\n"):
            whole = rows if len(rows[-1]) == len(self.keys) else rows[:-1]
            self._write(whole)
            if whole is not rows:
                print(f"\n{path}: the last line was cut off and is removed", flush=True)

    def on_epoch_end(self, epoch, logs=None):
        row = {**{name: _text(value) for name, value in (logs or {}).items()}, "epoch": epoch, "data": self.data}
        path = check_path("filename", self.filename)
        keys = ["epoch"] if self.keys is None else self.keys
        new = sorted(set(row) - set(keys))
        if self._is_first:
            joined = [name for name in new if name.removeprefix("val_") not in keys]
            if joined:
                raise ValueError(f"{self._other_header(joined)} The row that is not in the file: {row}.")
            self._is_first = False
        if not new and path.exists():
            with path.open("a", encoding="utf-8", newline="") as file:
                file.write(self._lines([[row.get(name, MISSING) for name in keys]]))
            return
        rows = self._read()[1:] if path.exists() else []
        keys = [*keys, *new]
        rows = [[*values, *[MISSING] * len(new)] for values in rows]
        self._write([keys, *rows, [row.get(name, MISSING) for name in keys]])
        self.keys = keys

    def on_train_end(self, logs=None):
        if self.params:
            self.params.pop("logged", None)  # of this `fit`; `History` keeps the others, which are plain numbers

    def _check_header(self, path):
        """What can be known before the first epoch of the columns that this training needs."""
        if self.keys[0] != "epoch":
            raise ValueError(
                f"`append=True` goes on with a log whose first column is `epoch`, separated by {self.sep!r}. "
                f"Received: {path}, which begins with {self.sep.join(self.keys)[:80]!r}. Give its `separator`, or "
                "another `filename`."
            )
        needed = {"data", *(self.params or {}).get("logged", ())}
        needed |= {metric.name for metric in self.model.metrics if metric.name.startswith("kl_rung_")}
        if needed - set(self.keys):
            raise ValueError(self._other_header(sorted(needed - set(self.keys))))

    def _other_header(self, joined):
        return (
            f"`append=True` needs a file with the columns of this training. {self.filename} has "
            f"{', '.join(self.keys)}; this training logs {', '.join(joined)} as well. Give another `filename`, or the "
            "callbacks that the file was written with."
        )

    def _read(self):
        with open(self.filename, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            return [row for row in csv.reader(file, delimiter=self.sep) if row]

    def _write(self, rows):
        replace_text(check_path("filename", self.filename), self._lines(rows))

    def _lines(self, rows):
        text = io.StringIO(newline="")
        csv.writer(text, delimiter=self.sep).writerows(rows)
        return text.getvalue()


def _text(value):
    """A number as it is, several as a list."""
    if isinstance(value, str) or not isinstance(value, Iterable) or np.ndim(value) == 0:
        return value
    return f"[{', '.join(map(str, value))}]"
