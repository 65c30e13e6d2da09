"""The numbers of a training, one per epoch, from what `fit` returns or from a log file."""

import csv
import io
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

DRAWN = re.compile(r"(val_)?(loss|reconstruction)|(kl|mi)_rung_\d+|mi_total|alpha|stage|epoch")
NOT_MEASURED = ("NA", "")  # as Keras writes it, and as pandas does
OTHER_FILES = (".html", ".htm", ".png", ".keras", ".h5")


def read_history(history: Any) -> tuple[dict[str, Sequence[float]], list[str]]:
    """The numbers by name, as many for each name as there are epochs, and what is left out of them.

    Args:
        history: What `training_curves` takes.

    Returns:
        `(numbers, notes)`: `numbers["epoch"]` counts from 0, and nan stands where an epoch lacks a value; `notes` are
        sentences, one for each thing that is in `history` and not in `numbers`.

    Raises:
        TypeError, ValueError: If it is none of these, has no epoch, or a value is no number.
    """
    if isinstance(history, str | os.PathLike):
        found, notes = _of_file(Path(history))
    else:
        found, notes = _of_fit(history), []
    found = {name: _numbers(name, values) if DRAWN.fullmatch(name) else values for name, values in found.items()}
    if "reconstruction" not in found:
        return found, notes  # of another model: `training_curves` says so
    count = len(found["reconstruction"])
    if count == 0:
        raise ValueError("`history` must have at least one epoch. Received: none.")
    epochs = found.setdefault("epoch", [float(epoch) for epoch in range(count)])
    if len(epochs) != count or not all(map(math.isfinite, epochs)):
        raise ValueError(f"`history` must have {count} numbers of epochs. Received: {epochs}.")
    for name in [name for name in found if DRAWN.fullmatch(name) and len(found[name]) != count]:
        values = found.pop(name)
        places = _validated(epochs, len(values)) if name.startswith("val_") else None
        if places is None:
            notes.append(
                f"`{name}` has {len(values)} values for {count} epochs, and which they belong to is not known: it is "
                "left out. The file of a `CSVLogger` knows."
            )
        else:
            found[name] = [math.nan] * count
            for place, value in zip(places, values, strict=True):
                found[name][place] = value
    return found, notes


def rungs_of(history: Mapping[str, Sequence[float]]) -> list[int]:
    """The rungs whose KL a history has, the deepest first."""
    names = (name for name in history if re.fullmatch(r"kl_rung_\d+", name))
    return sorted((int(name.rpartition("_")[2]) for name in names), reverse=True)


def epoch_numbers(history: Mapping[str, Sequence[float]]) -> list[int]:
    """The numbers of the epochs, from 1."""
    counted = max((len(values) for name, values in history.items() if DRAWN.fullmatch(name)), default=0)
    return [int(epoch) + 1 for epoch in history.get("epoch", range(counted))]


def _of_fit(history):
    """The numbers in what `fit` returns, or in its dict."""
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
    """Where so many epochs lie that a `validation_freq` chose, or `None` if none chooses as many."""
    for every in range(1, len(epochs) + 1):
        places = [place for place, epoch in enumerate(epochs) if (int(epoch) + 1) % every == 0]
        if len(places) == count:
            return places
    return None


def _of_file(path):
    """The numbers in a file that `CSVLogger`, or Keras's, wrote; and what of its rows is left out."""
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
            f"`history` must have at least one epoch. Received: {path}, whose {len(records)} rows below the header "
            f"hold none.{''.join(' ' + note for note in notes)}"
        )
    found = {}
    for place, name in enumerate(header):
        texts = [(line, fields[place].strip()) for line, fields in rows]
        if not DRAWN.fullmatch(name):
            found[name] = [text for _, text in texts]
        elif any(text not in NOT_MEASURED for _, text in texts):  # Keras has a `val_` column for every other
            found[name] = [_number(path, name, line, text) for line, text in texts]
    return found, notes


def _text_of(path):
    rule = "`history` must be what `fit` returns, or the CSV file that `CSVLogger` wrote."
    if path.suffix.lower() in OTHER_FILES:
        raise ValueError(f"{rule} Received: {path}.")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{rule} Received: {path}, which is no UTF-8 text ({error}).") from error
    if not text.strip():
        raise ValueError(f"{rule} Received: {path}, which is empty: no epoch of its training has ended.")
    return text.lstrip("\r\n")


def _separator(header):
    """What parts the columns: both loggers write `epoch` first; of other files, what parts most."""
    first = re.match(r"\"?epoch\"?([^\w\"])", header)
    return first[1] if first else max(",;\t|", key=header.count)


def _last_training(path, header, records):
    """`(line, fields)` of every epoch that counts: a training that goes back replaces the epochs it trains again."""
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
            f"{path}: {len(broken)} of {len(records)} rows ({_listed('line', lines)}) do not have the {len(header)} "
            "values of the header, so they are left out: cut off, or of a training that logged other values."
        )
    shown = {epoch_of(fields) for _, fields in rows}
    gone = [line for index, (line, fields) in enumerate(replaced) if index < restarts or epoch_of(fields) not in shown]
    if gone:
        notes.append(
            f"{path}: {len(gone)} of {len(records)} rows ({_listed('line', sorted(gone))}) are of epochs before the "
            "training, or another one in the same file, went back: they are left out."
        )
    return rows, notes


def _number(path, name, line, text):
    try:
        return math.nan if text in NOT_MEASURED else float(text)
    except ValueError:
        raise ValueError(f"`{name}` must be a number or NA. Received: {text!r} in line {line} of {path}.") from None


def _listed(word, numbers, most=5):
    more = f" and {len(numbers) - most} more" if len(numbers) > most else ""
    return f"{word}{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers[:most]))}{more}"
