"""The course of a training: loss, KL and I(x; z_l) of every rung, alpha, stages and unlocks."""

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

from keras_provlae.visualization.style import WIDTH, ink, name_data, rung_color


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
        ValueError: If the history is not that of a ladder model.
    """
    history = read_history(history)
    rungs = sorted(
        (int(name.rpartition("_")[2]) for name in history if re.fullmatch(r"kl_rung_\d+", name)), reverse=True
    )
    if not rungs or "reconstruction" not in history:
        raise ValueError(
            "`history` must be that of a ladder model, with `reconstruction` and `kl_rung_1` .. `kl_rung_L`. "
            f"Received: {sorted(history)}."
        )
    panels = [_draw_loss, _draw_kl]
    panels += [_draw_information] if f"mi_rung_{rungs[0]}" in history else []
    panels += [_draw_alpha] if "alpha" in history else []
    figure = Figure(figsize=(WIDTH, 1.7 * len(panels) + 0.6), layout="constrained")
    all_axes = figure.subplots(len(panels), 1, sharex=True)
    for axes, draw in zip(all_axes, panels, strict=True):
        draw(axes, history, rungs)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
        axes.yaxis.label.set_size(9)
        _mark_unlocks(axes, history.get("stage", []), len(rungs))
    _name_stages(all_axes[0], history.get("stage", []), len(rungs))
    all_axes[-1].set_xlabel("epoch", fontsize=9)
    all_axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    figure.align_ylabels()
    return name_data(figure, data)


def read_history(history: Any) -> Mapping[str, Sequence[float]]:
    """The numbers of a training by name, one per epoch, from what `training_curves` takes."""
    if not isinstance(history, str | os.PathLike):
        return getattr(history, "history", history)
    with open(history, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found = {}
    for name in rows[0] if rows else ():
        with contextlib.suppress(ValueError):  # of texts, and of what Keras calls NA
            found[name] = [float(row[name]) for row in rows]
    return found


def _epochs(values):
    return range(1, len(values) + 1)


def _draw_loss(axes, history, rungs):
    for name, style in ("loss", "-"), ("reconstruction", "--"):
        for prefix, color in ("", "black"), ("val_", "gray"):
            values = history.get(prefix + name, [])
            if len(values):
                axes.plot(_epochs(values), values, f".{style}", color=color, markersize=4, label=prefix + name)
    axes.set_ylabel("nats per image")
    axes.ticklabel_format(useOffset=False)
    _add_legend(axes)


def _draw_kl(axes, history, rungs):
    _draw_rungs(axes, history, rungs, "kl")
    axes.set_ylabel("KL in nats")


def _draw_information(axes, history, rungs):
    """Epochs without a measurement repeat the last one, so the lines are stairs."""
    total = history.get("mi_total", [])
    axes.plot(_epochs(total), total, "-", color="dimgray", linewidth=1, drawstyle="steps-post", label="total")
    _draw_rungs(axes, history, rungs, "mi", drawstyle="steps-post")
    axes.set_ylabel("I(x; z) in nats")


def _draw_rungs(axes, history, rungs, name, **style):
    for rung in rungs:
        values = history[f"{name}_rung_{rung}"]
        color = rung_color(len(rungs), rung)
        axes.plot(_epochs(values), values, ".-", color=color, markersize=4, label=f"rung {rung}", **style)
    axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
    _add_legend(axes)


def _add_legend(axes):
    """Beside the curves, never on them."""
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=1.5)


def _draw_alpha(axes, history, rungs):
    """alpha at the last step of each epoch; the line breaks where a stage ends and alpha restarts."""
    stages = history.get("stage", [0] * len(history["alpha"]))
    for stage, (first, last) in _spans(stages).items():
        color = rung_color(len(rungs), len(rungs) - stage)
        axes.plot(range(first, last + 1), history["alpha"][first - 1 : last], ".-", color=color, markersize=4)
    axes.set_ylabel("alpha")
    axes.set_ylim(-0.05, 1.05)


def _spans(stages):
    """{stage: its first and last epoch}."""
    spans = {}
    for epoch, stage in enumerate(map(int, stages), start=1):
        spans[stage] = (spans.get(stage, (epoch,))[0], epoch)
    return spans


def _name_stages(axes, stages, num_rungs):
    """The stage above its epochs; its number alone where there is no room for more."""
    narrow = len(set(stages)) > 4
    for stage, (first, last) in _spans(stages).items():
        name = f"{stage}" if narrow else f"stage {stage}"
        color = ink(rung_color(num_rungs, num_rungs - stage))
        style = {"ha": "center", "va": "bottom", "fontsize": 8, "color": color}
        axes.text((first + last) / 2, 1.02, name, transform=axes.get_xaxis_transform(), **style)


def _mark_unlocks(axes, stages, num_rungs):
    """A dotted line, in the rung's colour, at the first epoch of every stage."""
    for epoch, (before, after) in enumerate(itertools.pairwise(stages), start=2):
        for stage in range(int(before) + 1, int(after) + 1):
            axes.axvline(epoch, linestyle=":", color=rung_color(num_rungs, num_rungs - stage), zorder=0)
