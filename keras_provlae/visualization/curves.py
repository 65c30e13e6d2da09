"""Curves of a training: loss, KL and I(x; z_l) of every rung, alpha, stages and unlocks."""

import itertools
import math
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from matplotlib.ticker import MaxNLocator

from keras_provlae.visualization.history import LOSS_WEIGHT, epoch_numbers, read_history, rungs_of
from keras_provlae.visualization.picture import Picture, own_style
from keras_provlae.visualization.style import WIDTH, ink, name_data, rung_color, text_width

LOSS_WEIGHTS = {  # color and line
    "beta": ("black", "-"),
    "gamma": ("gray", "-"),
    "tc_weight": ("black", "--"),
    "capacity": ("black", "-."),
    "multiscale_weight": ("gray", ":"),
    "contour_weight": ("gray", "--"),
}


@own_style()
def training_curves(
    history: keras.callbacks.History | Mapping[str, Sequence[float]] | str | os.PathLike, data: Any = None
) -> Picture:
    """Plots loss, KL and I(x; z_l) per rung, alpha and stage over the epochs, with the unlocks marked.

    Args:
        history: The `History` that `model.fit` returns, or its dict {name: one number per epoch}, or the path of a file
            of `CSVLogger` with any separator, which also has the epochs before a resume. With the `InformationFlow`
            callback (before `CSVLogger`), the history has `mi_rung_L` .. `mi_rung_1` and `mi_total`. A warning lists
            what is not drawn: incomplete rows, and epochs of an earlier training in the same file.
        data: Name of the data for the title: a text, or the `GroundTruth` itself; `None` writes no title.

    Returns:
        A figure with one axes for loss and reconstruction and one for the KL, plus one for I(x; z_l) and one for the
        weights of the loss (`callbacks.Annealing`) if the history has them, and one for alpha if the model grows. The
        stages are named above the first axes.

    Raises:
        TypeError, ValueError: If the history is not of a ladder model, has no epoch, or has a value that is no number.

    Example:
        >>> len(training_curves({"loss": [3.0, 2.0], "reconstruction": [2.0, 1.5], "kl_rung_1": [1.0, 0.5]}).axes)
        2
    """
    history, notes = read_history(history)
    for note in notes:
        warnings.warn(note, stacklevel=2)
    rungs = rungs_of(history)
    if not rungs or "reconstruction" not in history:
        raise ValueError(
            "`history` must be of a ladder model, with `reconstruction` and `kl_rung_1` .. `kl_rung_L`. "
            f"Received: {sorted(history)}."
        )
    panels = [_draw_loss, _draw_kl]
    panels += [_draw_information] if f"mi_rung_{rungs[0]}" in history else []
    panels += [_draw_loss_weights] if any(map(LOSS_WEIGHT.fullmatch, history)) else []
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
    epochs = epoch_numbers(history)
    all_axes[-1].set_xlim(epochs[0] - 0.6, epochs[-1] + 0.6)
    all_axes[-1].set_xlabel("epoch", fontsize=9)
    all_axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    figure.align_ylabels()
    return name_data(figure, data)


def _draw_loss(axes, history, rungs):
    for name, style in ("loss", "-"), ("reconstruction", "--"):
        for prefix, color in ("", "black"), ("val_", "gray"):
            if prefix + name in history:
                points = zip(epoch_numbers(history), history[prefix + name], strict=True)
                points = np.array([point for point in points if math.isfinite(point[1])]).reshape(-1, 2)
                axes.plot(*points.T, f".{style}", color=color, markersize=4, label=prefix + name)
    axes.set_ylabel("nats per image")
    axes.ticklabel_format(useOffset=False)
    _add_legend(axes)


def _draw_kl(axes, history, rungs):
    _draw_rungs(axes, history, rungs, "kl")
    axes.set_ylabel("KL in nats")


def _draw_information(axes, history, rungs):
    """Draws steps with a dot at each new value: epochs without a measurement repeat the last one."""
    values = history.get("mi_total") or history[f"mi_rung_{rungs[0]}"]
    new = [0, *(position for position in range(1, len(values)) if values[position] != values[position - 1])]
    stairs = {"drawstyle": "steps-post", "markevery": new}
    if "mi_total" in history:
        axes.plot(
            epoch_numbers(history), values, ".-", color="dimgray", linewidth=1, markersize=4, label="total", **stairs
        )
    _draw_rungs(axes, history, rungs, "mi", **stairs)
    axes.set_ylim(top=max(1.0, axes.get_ylim()[1]))
    axes.set_ylabel("I(x; z) in nats")


def _draw_loss_weights(axes, history, rungs):
    for name in sorted(filter(LOSS_WEIGHT.fullmatch, history)):
        weight, _, rung = name.partition("_rung_")
        color, style = LOSS_WEIGHTS[weight]
        color = rung_color(len(rungs), int(rung)) if rung else color
        label = name.replace("_", " ")
        axes.plot(epoch_numbers(history), history[name], f".{style}", color=color, markersize=4, label=label)
    axes.set_ylabel("loss weights")
    _add_legend(axes)


def _draw_rungs(axes, history, rungs, name, **style):
    for rung in rungs:
        if f"{name}_rung_{rung}" not in history:
            continue
        color, values = rung_color(len(rungs), rung), history[f"{name}_rung_{rung}"]
        axes.plot(epoch_numbers(history), values, ".-", color=color, markersize=4, label=f"rung {rung}", **style)
    axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
    _add_legend(axes)


def _add_legend(axes):
    """Places the legend to the right of the curves."""
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=2.5)


def _draw_alpha(axes, history, rungs):
    """Draws alpha at the last step of each epoch, with a new line for every stage, where alpha restarts."""
    epochs = epoch_numbers(history)
    for stage, (first, last) in _spans(history.get("stage", [0] * len(epochs))).items():
        part, color = slice(first, last + 1), rung_color(len(rungs), len(rungs) - stage)
        axes.plot(epochs[part], history["alpha"][part], ".-", color=color, markersize=4)
    axes.set_ylabel("alpha")
    axes.set_ylim(-0.05, 1.05)


def _spans(stages):
    """`{stage: (first, last)}`, the positions of its epochs."""
    spans = {}
    for position, stage in enumerate(stages):
        if math.isfinite(stage):
            spans[int(stage)] = (spans.get(int(stage), (position,))[0], position)
    return spans


def _name_stages(axes, history, num_rungs):
    """Names each stage above its epochs; where there is no room, by its number or not at all."""
    epochs = epoch_numbers(history)
    room = 0.75 * WIDTH / max(epochs[-1] - epochs[0], 1)  # inches per epoch
    for stage, (first, last) in _spans(history.get("stage", [])).items():
        width = (epochs[last] - epochs[first] + 1) * room
        name = next((name for name in (f"stage {stage}", f"{stage}") if text_width([name], points=8) < width), "")
        color = ink(rung_color(num_rungs, num_rungs - stage))
        style = {"ha": "center", "va": "bottom", "fontsize": 8, "color": color}
        axes.text((epochs[first] + epochs[last]) / 2, 1.02, name, transform=axes.get_xaxis_transform(), **style)


def _mark_unlocks(axes, history, num_rungs):
    """Draws a dotted line in the rung's color before the first epoch of every stage."""
    known = zip(epoch_numbers(history), history.get("stage", []), strict=False)
    known = [(epoch, stage) for epoch, stage in known if math.isfinite(stage)]
    for (_, before), (epoch, after) in itertools.pairwise(known):
        for stage in range(int(before) + 1, int(after) + 1):
            axes.axvline(epoch - 0.5, linestyle=":", color=rung_color(num_rungs, num_rungs - stage), zorder=0)
