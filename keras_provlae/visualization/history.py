"""Reads the per-epoch numbers of a training from a Keras `History` or a log file."""

import csv
import io
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

LOSS_WEIGHT = re.compile(
    r"(beta|gamma|tc_weight|capacity|multiscale_weight|contour_weight)(_rung_\d+)?"
)  # as `callbacks.Annealing` logs them
DRAWN = re.compile(rf"(val_)?(loss|reconstruction)|(kl|mi)_rung_\d+|mi_total|alpha|stage|epoch|{LOSS_WEIGHT.pattern}")
NOT_MEASURED = ("NA", "")  # as Keras and pandas write it
OTHER_FILES = (".html", ".htm", ".png", ".keras", ".h5")


def read_history(history: Any) -> tuple[dict[str, Sequence[float]], list[str]]:
    """Reads the numbers by name, one per epoch, and lists what it leaves out.

    Args:
        history: As in `training_curves`.

    Returns:
        `(numbers, notes)`: `numbers["epoch"]` counts from 0, and NaN stands where an epoch lacks a value; `notes` has a
        sentence about each part of `history` that is left out.

    Raises:
        TypeError, ValueError: If `history` is of another type, has no epoch, or has a value that is no number.
    """
    if isinstance(history, str | os.PathLike):
        found, notes = _of_file(Path(history))
    else:
        found, notes = _of_fit(history), []
    found = {name: _numbers(name, values) if DRAWN.fullmatch(name) else values for name, values in found.items()}
    if "reconstruction" not in found:
        return found, notes  # not of a ladder model: `training_curves` raises
    count = len(found["reconstruction"])
    if count == 0:
        raise ValueError("`history` must have at least one epoch. Received: none.")
    epochs = found.setdefault("epoch", [float(epoch) for epoch in range(count)])
    if len(epochs) != count or not all(map(math.isfinite, epochs)):
        raise ValueError(f"`history` must have {count} epoch numbers. Received: {epochs}.")
    for name in [name for name in found if DRAWN.fullmatch(name) and len(found[name]) != count]:
        values = found.pop(name)
        places = _validated(epochs, len(values)) if name.startswith("val_") else None
        if places is None:
            notes.append(
                f"`{name}` is left out: it has {len(values)} values for {count} epochs, and it is not known which. The "
                "file of a `CSVLogger` has the epochs."
            )
        else:
            found[name] = [math.nan] * count
            for place, value in zip(places, values, strict=True):
                found[name][place] = value
    return found, notes


def rungs_of(history: Mapping[str, Sequence[float]]) -> list[int]:
    """Rungs whose KL is in a history, deepest first."""
    names = (name for name in history if re.fullmatch(r"kl_rung_\d+", name))
    return sorted((int(name.rpartition("_")[2]) for name in names), reverse=True)


def epoch_numbers(history: Mapping[str, Sequence[float]]) -> list[int]:
    """Epoch numbers, counted from 1."""
    count = max((len(values) for name, values in history.items() if DRAWN.fullmatch(name)), default=0)
    return [int(epoch) + 1 for epoch in history.get("epoch", range(count))]


def _of_fit(history):
    """The numbers of a `History` or its dict."""
    epochs = {"epoch": history.epoch} if getattr(history, "epoch", None) else {}
    history = getattr(history, "history", history)
    if not isinstance(history, Mapping):
        raise TypeError(f"`history` must be what `fit` returns. Received: {type(history).__name__}.")
    return {**{str(name): values for name, values in history.items()}, **epochs}


def _numbers(name, values):
    try:
        numbers = np.asarray(values, "float64")
    except (TypeError, ValueError):
        numbers = None
    if numbers is None or numbers.ndim != 1:
        raise TypeError(f"`history` must have one number per epoch. Received: {name}={str(values)[:80]}.")
    return numbers.tolist()


def _validated(epochs, count):
    """Positions of the epochs that were validated, if some `validation_freq` gives that many; else `None`."""
    for every in range(1, len(epochs) + 1):
        places = [place for place, epoch in enumerate(epochs) if (int(epoch) + 1) % every == 0]
        if len(places) == count:
            return places
    return None


def _of_file(path):
    """Reads a file of `CSVLogger` or of Keras's; returns the columns, and notes on rows that are left out."""
    text = _text_of(path)
    separator = _separator(text.splitlines()[0])
    reader, records = csv.reader(io.StringIO(text, newline=""), delimiter=separator), []
    try:
        for fields in reader:
            records += [(reader.line_num, fields)] if fields else []
    except csv.Error as error:
        raise ValueError(f"Line {reader.line_num} of {path} cannot be read: {error}.") from error
    (_, header), *records = records
    rows, notes = _last_training(path, header, records)
    if not rows:
        raise ValueError(
            f"`history` must have at least one epoch. Received: {path}, with none in {len(records)} rows below the "
            f"header.{''.join(' ' + note for note in notes)}"
        )
    found = {}
    for place, name in enumerate(header):
        texts = [(line, fields[place].strip()) for line, fields in rows]
        if not DRAWN.fullmatch(name):
            found[name] = [text for _, text in texts]
        elif any(text not in NOT_MEASURED for _, text in texts):  # Keras adds `val_` columns without values
            found[name] = [_number(path, name, line, text) for line, text in texts]
    return found, notes


def _text_of(path):
    rule = "`history` must be what `fit` returns, or a CSV file of `CSVLogger`."
    if path.suffix.lower() in OTHER_FILES:
        raise ValueError(f"{rule} Received: {path}.")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{rule} Received: {path}, which is not UTF-8 text ({error}).") from error
    if not text.strip():
        raise ValueError(f"{rule} Received: {path}, which is empty: its training completed no epoch.")
    return text.lstrip("\r\n")


def _separator(header):
    """Finds the separator: both loggers write `epoch` first; in other files, the most frequent candidate."""
    first = re.match(r"\"?epoch\"?([^\w\"])", header)
    return first[1] if first else max(",;\t|", key=header.count)


def _last_training(path, header, records):
    """Selects `(line, fields)` of each epoch: the last, where a resume or a second training repeats it. Adds notes."""
    place = header.index("epoch") if "epoch" in header else None

    def epoch_of(fields):
        try:
            return math.nan if place is None else float(fields[place])
        except (IndexError, ValueError):
            return math.nan

    rows, broken, replaced, restarts = [], [], [], 0
    for line, fields in records:
        epoch = epoch_of(fields)
        if len(fields) != len(header) or (place is not None and math.isnan(epoch)):
            broken.append((line, fields))
            continue
        back = [row for row in rows[-1:] if epoch <= epoch_of(row[1])]
        while rows and epoch <= epoch_of(rows[-1][1]):
            replaced.append(rows.pop())
        restarts = len(replaced) if back and not rows else restarts
        broken = [row for row in broken if not (len(row[1]) < len(header) and epoch <= epoch_of(row[1]))]
        rows.append((line, fields))
    notes = []
    if broken:
        lines = [line for line, _ in broken]
        notes.append(
            f"{path}: left out {len(broken)} of {len(records)} rows ({_lines(lines)}) without the {len(header)} values "
            "of the header: cut off, or from a training that logged other values."
        )
    shown = {epoch_of(fields) for _, fields in rows}
    gone = [line for index, (line, fields) in enumerate(replaced) if index < restarts or epoch_of(fields) not in shown]
    if gone:
        notes.append(
            f"{path}: left out {len(gone)} of {len(records)} rows ({_lines(sorted(gone))}) of epochs before the "
            "training went back, or another one started in the same file."
        )
    return rows, notes


def _number(path, name, line, text):
    try:
        return math.nan if text in NOT_MEASURED else float(text)
    except ValueError:
        raise ValueError(f"`{name}` must be a number or NA. Received: {text!r} in line {line} of {path}.") from None


def _lines(numbers, most=5):
    more = f" and {len(numbers) - most} more" if len(numbers) > most else ""
    return f"line{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers[:most]))}{more}"
