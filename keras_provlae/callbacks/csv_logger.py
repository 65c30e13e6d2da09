"""A CSV log of a training that names its data."""

import csv
import io
import os
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from keras_provlae.folders import check_path, check_writable, replace_text
from keras_provlae.messages import say

MISSING = "NA"  # as in Keras


class CSVLogger(keras.callbacks.CSVLogger):
    """`keras.callbacks.CSVLogger` with a column `data`, and a column for every name that is ever logged.

    Keras takes the columns from the first epoch. Here, a name that first appears later (with `validation_freq=2`, or
    from a callback that starts late) gets a column too, filled with `NA` above; `NA` also stands where an epoch lacks a
    value. The file with the new header is written beside the old one and replaces it atomically, so a kill at any
    moment leaves a complete file.

    Args:
        filename: Path of the file; its folder is created.
        data: Name of the data: a text, or the `GroundTruth` itself.
        separator: One character between values.
        append: Bool. Whether to append to an existing file; a last line cut off by a kill is removed. The file must
            have a column for every value of this training's first epoch (`val_` columns may come later). `False` starts
            a new file.

    Raises:
        TypeError, ValueError: If an argument is invalid. With `append`, at the start of `fit`, if the file has another
            separator or lacks a column for a value of the model or of the observers before this callback; at the end of
            the first epoch, if it lacks one for a value of another callback. The file stays unchanged.
        OSError: At the start of `fit`, if the file cannot be written.

    Example:
        >>> logger = CSVLogger("history.csv", data="digits", append=True)
    """

    def __init__(self, filename: str | os.PathLike, data: Any, separator: str = ",", append: bool = False):
        super().__init__(check_path("filename", filename), separator, append)
        if not isinstance(separator, str) or len(separator) != 1 or separator.isalnum() or separator in "\"\r\n.+-_'":
            raise ValueError(
                f"`separator` must be one character that no number or name contains. Received: separator={separator!r}."
            )
        if data is None:
            raise TypeError("`data` must name the data: a text, or the GroundTruth. Received: data=None.")
        self.data = str(data).encode("utf-8", "backslashreplace").decode()

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        path = check_path("filename", self.filename)
        if path.exists() and not path.is_file():
            raise ValueError(f"`filename` must be a regular file. Received: {path}.")
        check_writable("The log", path.parent)
        rows = self._read() if self.append and path.exists() else []
        self.keys = rows[0] if rows else None
        self._is_first = bool(rows)  # the next epoch is the first one appended
        if self.keys is not None:
            self._check_header(path)
        if not self.append:
            self._write([])
        elif rows and not path.read_bytes().endswith(b"\n"):
            whole = rows if len(rows[-1]) == len(rows[0]) else rows[:-1]
            self._write(whole)
            if whole is not rows:
                say(f"{path}: removed the last line, which was cut off", new_line=True)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        row = {**{name: _text(value) for name, value in (logs or {}).items()}, "epoch": epoch, "data": self.data}
        path = check_path("filename", self.filename)
        keys = ["epoch"] if self.keys is None else self.keys
        new = sorted(set(row) - set(keys))
        if self._is_first:
            missing = [name for name in new if name.removeprefix("val_") not in keys]
            if missing:
                raise ValueError(f"{self._header_error(missing)} The unlogged row: {row}.")
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

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if self.params:
            self.params.pop("logged", None)  # `History` keeps `params`: only numbers may stay

    def _check_header(self, path):
        """Checks the header for the columns that are known before the first epoch."""
        if self.keys[0] != "epoch":
            raise ValueError(
                f"`append=True` needs a log whose first column is `epoch`, separated by {self.sep!r}. "
                f"Received: {path}, which begins with {self.sep.join(self.keys)[:80]!r}. Give its `separator`, or "
                "another `filename`."
            )
        needed = {"data", *(self.params or {}).get("logged", ())}
        needed |= {metric.name for metric in self.model.metrics if metric.name.startswith("kl_rung_")}
        if needed - set(self.keys):
            raise ValueError(self._header_error(sorted(needed - set(self.keys))))

    def _header_error(self, missing):
        return (
            f"`append=True` needs a file with the columns of this training. {self.filename} has "
            f"{', '.join(self.keys)}; this training also logs {', '.join(missing)}. Give another `filename`, or the "
            "same callbacks as the run that wrote the file."
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
    """A number unchanged; several numbers as the text of a list."""
    if isinstance(value, str) or not isinstance(value, Iterable) or np.ndim(value) == 0:
        return value
    return f"[{', '.join(map(str, value))}]"
