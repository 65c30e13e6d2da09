"""The course of a training: loss, KL of every rung, alpha and the unlocks."""

import contextlib
import csv
import itertools
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from keras_provlae.visualization.style import name_data, rung_color


def training_curves(
    history: keras.callbacks.History | Mapping[str, Sequence[float]] | str | os.PathLike, data: Any = None
) -> Figure:
    """Loss, KL per rung and alpha over the epochs, with the unlocks marked.

    Args:
        history: What `model.fit` returns, or its dict {name: one number per epoch}, or the path of the file that
            `CSVLogger` wrote: it has the epochs before a resume too.
        data: What the images are, for the title: a text, or the `GroundTruth` itself; `None` is no title.

    Returns:
        A figure with two axes, and a third for alpha where the model has one.

    Raises:
        ValueError: If the history is not that of a ladder model.
    """
    history = _read(history) if isinstance(history, str | os.PathLike) else getattr(history, "history", history)
    rungs = sorted(
        (int(name.rpartition("_")[2]) for name in history if re.fullmatch(r"kl_rung_\d+", name)), reverse=True
    )
    if not rungs or "reconstruction" not in history:
        raise ValueError(
            "`history` must be that of a ladder model, with `reconstruction` and `kl_rung_1` .. `kl_rung_L`. "
            f"Received: {sorted(history)}."
        )
    rows = 3 if "alpha" in history else 2
    figure = Figure(figsize=(7.0, 2.0 * rows + 0.6), layout="constrained")
    panels = figure.subplots(rows, 1, sharex=True)
    _draw_loss(panels[0], history)
    _draw_kl(panels[1], history, rungs)
    if rows == 3:
        _draw_alpha(panels[2], history)
    panels[-1].set_xlabel("epoch")
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        _mark_unlocks(axes, history.get("stage", []), len(rungs))
    return name_data(figure, data)


def _read(path):
    """The columns of numbers of a CSV file."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found = {}
    for name in rows[0] if rows else ():
        with contextlib.suppress(ValueError):  # of texts, and of what Keras calls NA
            found[name] = [float(row[name]) for row in rows]
    return found


def _epochs(values):
    return range(1, len(values) + 1)


def _draw_loss(axes, history):
    for name, style in ("loss", "-"), ("reconstruction", "--"):
        values = history.get(name, [])
        axes.plot(_epochs(values), values, f".{style}", color="black", markersize=4, label=name)
        validation = history.get(f"val_{name}", [])
        if validation:
            axes.plot(_epochs(validation), validation, f".{style}", color="gray", markersize=4, label=f"val_{name}")
    axes.set_ylabel("nats per image")
    axes.ticklabel_format(useOffset=False)
    axes.legend(edgecolor="none", fontsize=8, ncols=2)


def _draw_kl(axes, history, rungs):
    for rung in rungs:
        values = history[f"kl_rung_{rung}"]
        axes.plot(_epochs(values), values, ".-", color=rung_color(len(rungs), rung), markersize=4, label=f"rung {rung}")
    axes.set_ylabel("KL in nats")
    axes.legend(edgecolor="none", fontsize=8, ncols=2)


def _draw_alpha(axes, history):
    """alpha at the last step of each epoch; the line breaks where a stage ends and alpha restarts."""
    stages = history.get("stage", [0] * len(history["alpha"]))
    for stage in sorted(set(stages)):
        points = [
            (epoch, a) for epoch, a, s in zip(_epochs(stages), history["alpha"], stages, strict=True) if s == stage
        ]
        axes.plot(*zip(*points, strict=True), ".-", color="black", markersize=4)
    axes.set_ylabel("alpha")
    axes.set_ylim(-0.05, 1.05)


def _mark_unlocks(axes, stages, num_rungs):
    """A dotted line, in the rung's colour, at the first epoch of every stage."""
    for epoch, (before, after) in enumerate(itertools.pairwise(stages), start=2):
        for stage in range(int(before) + 1, int(after) + 1):
            axes.axvline(epoch, linestyle=":", color=rung_color(num_rungs, num_rungs - stage), zorder=0)
