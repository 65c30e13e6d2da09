"""The course of a training: loss, KL and I(x; z_l) of every rung, alpha, stages and unlocks."""

import csv
import itertools
import math
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from keras_provlae.visualization.picture import Picture, own_style
from keras_provlae.visualization.style import WIDTH, ink, name_data, rung_color, text_width


@own_style()
def training_curves(
    history: keras.callbacks.History | Mapping[str, Sequence[float]] | str | os.PathLike, data: Any = None
) -> Figure:
    """Loss, KL and I(x; z_l) per rung, alpha and stage over the epochs, with the unlocks marked.

    Args:
        history: What `model.fit` returns, or its dict {name: one number per epoch}, or the path of the file that
            `CSVLogger` wrote: it has the epochs before a resume too. With `InformationFlow` among the callbacks
            (before `CSVLogger`) it has `mi_rung_L` .. `mi_rung_1` and `mi_total`.
        data: What the images are, for the title: a text, or the `GroundTruth` itself; `None` is no title.

    Returns:
        A figure with an axes for loss and reconstruction and one for the KL; one for I(x; z_l) where the
        history has it, and one for alpha where the model grows. The stages stand above the first.

    Raises:
        TypeError, ValueError: If the history is not that of a ladder model.

    Example:
        >>> len(training_curves({"loss": [3.0, 2.0], "reconstruction": [2.0, 1.5], "kl_rung_1": [1.0, 0.5]}).axes)
        2
    """
    history = read_history(history)
    rungs = rungs_of(history)
    if not rungs or "reconstruction" not in history:
        raise ValueError(
            "`history` must be that of a ladder model, with `reconstruction` and `kl_rung_1` .. `kl_rung_L`. "
            f"Received: {sorted(history)}."
        )
    panels = [_draw_loss, _draw_kl]
    panels += [_draw_information] if f"mi_rung_{rungs[0]}" in history else []
    panels += [_draw_alpha] if "alpha" in history else []
    figure = Picture(figsize=(WIDTH, 1.7 * len(panels) + 0.6), layout="constrained")
    all_axes = figure.subplots(len(panels), 1, sharex=True)
    for axes, draw in zip(all_axes, panels, strict=True):
        draw(axes, history, rungs)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
        axes.yaxis.label.set_size(9)
        _mark_unlocks(axes, history, len(rungs))
    _name_stages(all_axes[0], history, len(rungs))
    epochs = _epochs(history)
    all_axes[-1].set_xlim(epochs[0] - 0.6, epochs[-1] + 0.6)
    all_axes[-1].set_xlabel("epoch", fontsize=9)
    all_axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    figure.align_ylabels()
    return name_data(figure, data)


def rungs_of(history: Mapping[str, Sequence[float]]) -> list[int]:
    """The rungs whose KL a history has, the deepest first."""
    names = (name for name in history if re.fullmatch(r"kl_rung_\d+", name))
    return sorted((int(name.rpartition("_")[2]) for name in names), reverse=True)


def read_history(history: Any) -> dict[str, Sequence[float]]:
    """The numbers of a training by name, one per epoch, from what `training_curves` takes; `epoch` counts from 0."""
    if not isinstance(history, str | os.PathLike):
        epochs = {"epoch": history.epoch} if getattr(history, "epoch", None) else {}
        history = getattr(history, "history", history)
        if not isinstance(history, Mapping):
            raise TypeError(f"`history` must be what `fit` returns. Received: {type(history).__name__}.")
        return {**history, **epochs}
    if str(history).lower().endswith((".html", ".htm", ".png", ".keras")):
        raise ValueError(
            f"`history` must be what `fit` returns, or the CSV file that `CSVLogger` wrote. Received: {history}."
        )
    with open(history, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        rows = []
        for row in reader:
            if None in row or None in row.values():  # half written
                continue
            while rows and _number(row.get("epoch", "")) <= _number(rows[-1].get("epoch", "")):
                rows.pop()  # this training went back, or another one began
            rows.append(row)
    found = {name: [_number(row[name]) for row in rows] for name in (rows[0] if rows else ())}
    return {name: values for name, values in found.items() if not all(map(math.isnan, values))}


def _number(text):
    """nan for texts, and for what Keras calls NA."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _epochs(history):
    """Numbers of the epochs, from 1."""
    counted = len(history["reconstruction"])
    return [int(epoch) + 1 for epoch in history.get("epoch", range(counted))]


def _draw_loss(axes, history, rungs):
    for name, style in ("loss", "-"), ("reconstruction", "--"):
        for prefix, color in ("", "black"), ("val_", "gray"):
            values = history.get(prefix + name, [])
            if len(values):
                epochs = _epochs(history)
                points = zip(_measured(epochs, len(values)), values, strict=False)
                points = np.array([point for point in points if math.isfinite(point[1])]).reshape(-1, 2)
                axes.plot(*points.T, f".{style}", color=color, markersize=4, label=prefix + name)
    axes.set_ylabel("nats per image")
    axes.ticklabel_format(useOffset=False)
    _add_legend(axes)


def _measured(epochs, count):
    """The epochs of so many values: all, or those of a `validation_freq`."""
    by_frequency = ([epoch for epoch in epochs if epoch % every == 0] for every in range(1, len(epochs) + 1))
    return next((chosen for chosen in by_frequency if len(chosen) == count), [])


def _draw_kl(axes, history, rungs):
    _draw_rungs(axes, history, rungs, "kl")
    axes.set_ylabel("KL in nats")


def _draw_information(axes, history, rungs):
    """Epochs without a measurement repeat the last one, so the lines are stairs, with a dot where the value is new."""
    values = history.get("mi_total", history[f"mi_rung_{rungs[0]}"])
    new = [0, *(position for position in range(1, len(values)) if values[position] != values[position - 1])]
    stairs = {"drawstyle": "steps-post", "markevery": new}
    if "mi_total" in history:
        axes.plot(_epochs(history), values, ".-", color="dimgray", linewidth=1, markersize=4, label="total", **stairs)
    _draw_rungs(axes, history, rungs, "mi", **stairs)
    axes.set_ylim(top=max(1.0, axes.get_ylim()[1]))
    axes.set_ylabel("I(x; z) in nats")


def _draw_rungs(axes, history, rungs, name, **style):
    for rung in rungs:
        values = history[f"{name}_rung_{rung}"]
        color = rung_color(len(rungs), rung)
        axes.plot(_epochs(history), values, ".-", color=color, markersize=4, label=f"rung {rung}", **style)
    axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
    _add_legend(axes)


def _add_legend(axes):
    """Beside the curves, never on them."""
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=2.5)


def _draw_alpha(axes, history, rungs):
    """alpha at the last step of each epoch; the line breaks where a stage ends and alpha restarts."""
    epochs = _epochs(history)
    for stage, (first, last) in _spans(history.get("stage", [0] * len(epochs))).items():
        part, color = slice(first, last + 1), rung_color(len(rungs), len(rungs) - stage)
        axes.plot(epochs[part], history["alpha"][part], ".-", color=color, markersize=4)
    axes.set_ylabel("alpha")
    axes.set_ylim(-0.05, 1.05)


def _spans(stages):
    """{stage: positions of its first and last epoch}."""
    spans = {}
    for position, stage in enumerate(map(int, stages)):
        spans[stage] = (spans.get(stage, (position,))[0], position)
    return spans


def _name_stages(axes, history, num_rungs):
    """The stage above its epochs; its number alone where there is no room for more, or nothing."""
    epochs = _epochs(history)
    room = 0.75 * WIDTH / max(epochs[-1] - epochs[0], 1)  # inches per epoch
    for stage, (first, last) in _spans(history.get("stage", [])).items():
        width = (epochs[last] - epochs[first] + 1) * room
        name = next((name for name in (f"stage {stage}", f"{stage}") if text_width([name], points=8) < width), "")
        color = ink(rung_color(num_rungs, num_rungs - stage))
        style = {"ha": "center", "va": "bottom", "fontsize": 8, "color": color}
        axes.text((epochs[first] + epochs[last]) / 2, 1.02, name, transform=axes.get_xaxis_transform(), **style)


def _mark_unlocks(axes, history, num_rungs):
    """A dotted line, in the rung's colour, before the first epoch of every stage."""
    stages = history.get("stage", [])
    for epoch, (before, after) in zip(_epochs(history)[1:], itertools.pairwise(stages), strict=False):
        for stage in range(int(before) + 1, int(after) + 1):
            axes.axvline(epoch - 0.5, linestyle=":", color=rung_color(num_rungs, num_rungs - stage), zorder=0)
