"""Comparisons of many trainings: reconstruction error against scores, MIG against MIG-sup (figures 2 and 3)."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from matplotlib.lines import Line2D

from keras_provlae.checks import check_count
from keras_provlae.visualization.picture import Picture, own_style
from keras_provlae.visualization.style import PALETTE, WIDTH, ink, name_data, text_width

SCORES = {"factor_vae_score": "FactorVAE score", "mig": "MIG", "mig_sup": "MIG-sup"}
MARKERS = ["o", "s", "^", "D", "v", "P", "X", "*"]


class Point(NamedTuple):
    """The trainings of one model at one beta."""

    model: str
    beta: float | None
    runs: np.ndarray  # (runs, 2): x and y of each run
    mean: np.ndarray  # (2,)


@own_style()
def reconstruction_against_scores(
    runs: Iterable[Mapping[str, Any]], top: int | None = None, data: Any = None
) -> Picture:
    """Plots reconstruction error against the FactorVAE score, MIG and MIG-sup, per model and beta (figure 2).

    Args:
        runs: A dict per training: `model`, a text; `beta`, a number, or `None` for a model without one;
            `reconstruction`, the error in nats per image; and `factor_vae_score`, `mig`, `mig_sup` (numbers, or scores
            of a metric card). A score that no run has gets no axes; other entries are ignored.
        top: Int >= 1 or `None`. Each point is the mean of the `top` runs with the highest score (three in the paper);
            `None` averages all. Single runs are shown small.
        data: Name of the data for the title: a text, or the `GroundTruth` itself; `None` writes no title.

    Returns:
        A figure with one axes per score. A line joins the points of a model by beta, which is written beside each.

    Raises:
        TypeError, ValueError: If there is no run, or one lacks a value that the figure needs.

    Source: Li et al. (2020), figure 2.
    """
    runs = _checked(runs, ("reconstruction",))
    scores = {name: words for name, words in SCORES.items() if any(name in run for run in runs)}
    if not scores:
        raise ValueError(f"`runs` must have at least one of {', '.join(SCORES)}. Received: {sorted(runs[0])}.")
    models = _models(runs)
    figure = Picture(figsize=(WIDTH, 3.7), layout="constrained")
    panels = figure.subplots(1, len(scores), squeeze=False)[0]
    points = {}
    for axes, (name, words) in zip(panels, scores.items(), strict=True):
        scored = _points([run for run in runs if name in run], ("reconstruction", name), top)
        points[axes] = _draw(axes, scored, models)
        axes.set_xlabel("reconstruction error\nin nats per image", fontsize=9)
        axes.set_ylabel(words, fontsize=9)
    return _finished(figure, points, models, top, data)


@own_style()
def mig_against_mig_sup(runs: Iterable[Mapping[str, Any]], top: int | None = None, data: Any = None) -> Picture:
    """Plots MIG against MIG-sup, one point per model and beta; better models are up and to the right (figure 3).

    Args:
        runs: As `reconstruction_against_scores`, with `mig` and `mig_sup`; `reconstruction` is not needed.
        top: Int >= 1 or `None`. Each point is the mean of the `top` runs with the highest sum; `None` averages all.
        data: Name of the data for the title: a text, or the `GroundTruth` itself; `None` writes no title.

    Returns:
        A figure with one axes.

    Raises:
        TypeError, ValueError: If there is no run, or one lacks a value that the figure needs.

    Example:
        >>> runs = [{"model": "VLAE", "beta": beta, "mig": 0.1 * beta, "mig_sup": 0.2} for beta in (1, 2, 4)]
        >>> mig_against_mig_sup(runs).axes[0].get_ylabel()
        'MIG-sup'

    Source: Li et al. (2020), figure 3.
    """
    runs = _checked(runs, ("mig", "mig_sup"))
    models = _models(runs)
    figure = Picture(figsize=(6.2, 5.2), layout="constrained")
    axes = figure.add_subplot()
    points = _draw(axes, _points(runs, ("mig", "mig_sup"), top, both=True), models)
    axes.set_xlabel("MIG", fontsize=9)
    axes.set_ylabel("MIG-sup", fontsize=9)
    return _finished(figure, {axes: points}, models, top, data)


def _checked(runs, needed):
    runs = list(runs)
    if not runs:
        raise ValueError("`runs` must have at least one training. Received: none.")
    for number, run in enumerate(runs):
        if not isinstance(run, Mapping):
            raise TypeError(f"`runs` must be dicts, one per training. Received: {type(run).__name__}.")
        missing = [name for name in ("model", "beta", *needed) if name not in run]
        if missing:
            raise ValueError(f"Run {number} lacks {', '.join(missing)}. Received: {', '.join(sorted(run))}.")
    return runs


def _models(runs):
    """`{model: color}` in the order of the runs, the same in every axes."""
    models = dict.fromkeys(run["model"] for run in runs)
    return {model: PALETTE[number % len(PALETTE)] for number, model in enumerate(models)}


def _points(runs, names, top, both=False):
    """One `Point` per model and beta: models in the order of the runs, betas ascending."""
    if top is not None:
        check_count("top", top)
    groups = {}
    for run in runs:
        groups.setdefault((run["model"], run["beta"]), []).append([float(run[name]) for name in names])
    models = list(dict.fromkeys(model for model, _ in groups))
    points = []
    for model, beta in sorted(groups, key=lambda key: (models.index(key[0]), -1 if key[1] is None else key[1])):
        values = np.array(groups[model, beta])
        quality = values.sum(axis=1) if both else values[:, 1]
        best = np.argsort(-quality)[:top]
        points.append(Point(model, beta, values, values[best].mean(axis=0)))
    return points


def _draw(axes, points, models):
    """Draws the joined points of each model and its single runs; returns the points."""
    for number, (model, color) in enumerate(models.items()):
        of_model = [point for point in points if point.model == model]
        if not of_model:
            continue
        style = {"color": color, "marker": MARKERS[number % len(MARKERS)]}
        axes.plot(*np.stack([point.mean for point in of_model]).T, linewidth=1, markersize=6, label=model, **style)
        runs = np.concatenate([point.runs for point in of_model])
        axes.plot(*runs.T, linestyle="", markersize=3, alpha=0.35, **style)
    axes.margins(0.12)
    axes.tick_params(labelsize=8)
    axes.grid(color="gainsboro", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return points


def _name_betas(axes, points, colors):
    """Writes beta beside each point, at the place that covers other points and labels least."""
    means = axes.transData.transform([point.mean for point in points])
    step = 72 / axes.figure.dpi
    taken = [(x, y, 5.0, 5.0) for x, y in means]  # center, half width and half height, in dots
    for (x, y), point in zip(means, points, strict=True):
        if point.beta is None:
            continue
        text = f"{point.beta:g}"
        half = np.array([2.6 * len(text) + 1, 5.0]) / step
        offsets = [
            np.array([a, b]) * (half + 5.0 / step) * distance
            for distance in (1, 1.7, 2.4)
            for a, b in ((1, 0), (0, 1), (-1, 0), (0, -1), (0.8, 0.8), (-0.8, 0.8), (0.8, -0.8), (-0.8, -0.8))
        ]
        middle = min(offsets, key=lambda offset: _overlap(taken, (x + offset[0], y + offset[1], *half)))
        taken.append((x + middle[0], y + middle[1], *half))
        axes.annotate(
            text, point.mean, middle * step, textcoords="offset points", fontsize=8, ha="center", va="center",
            color=ink(colors[point.model]),
        )  # fmt: skip


def _overlap(boxes, box):
    """Total area of the overlaps between a box and others."""
    x, y, half_width, half_height = box
    return sum(
        max(0.0, half_width + w - abs(x - other_x)) * max(0.0, half_height + h - abs(y - other_y))
        for other_x, other_y, w, h in boxes
    )


def _finished(figure, points, models, top, data):
    names = [model for model in models if any(point.model == model for some in points.values() for point in some)]
    handles = [
        Line2D([], [], color=models[name], marker=MARKERS[list(models).index(name) % len(MARKERS)]) for name in names
    ]
    columns = max(int(figure.get_figwidth() / (text_width(names) + 0.5)), 1)
    means = "" if top is None else "the best run; " if top == 1 else f"means of the best {top}; "
    style = {"loc": "outside lower center", "ncols": columns, "frameon": False, "fontsize": 9, "title_fontsize": 9}
    title = f"{means}numbers: beta; faint: single runs"
    legend = figure.legend(handles, [" "] * len(names), title=title, **style)
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_text(name)  # matplotlib drops labels that begin with "_"
    name_data(figure, data)
    figure.draw_without_rendering()  # the layout fixes where the points are
    for axes, some in points.items():
        _name_betas(axes, some, models)
    return figure
