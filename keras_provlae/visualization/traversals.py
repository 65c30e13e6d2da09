"""One row per latent, that latent swept and all the others held: a picture, and an animation there and back."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from matplotlib.figure import Figure

from keras_provlae.metrics.encoding import encode_all
from keras_provlae.metrics.posteriors import check_count, optional
from keras_provlae.metrics.rung_factors import HELD
from keras_provlae.visualization.grids import add_grid, columns_that_fit, geometry, grid, label_rows
from keras_provlae.visualization.latent_use import (
    as_images,
    decode_all,
    held_codes,
    held_factors,
    latent_use,
    locked_rungs,
)
from keras_provlae.visualization.style import (
    TITLE_HEIGHT,
    WIDTH,
    ink,
    latent_names,
    name_data,
    place,
    rung_color,
    shorten,
    star,
    text_width,
    write,
)
from keras_provlae.visualization.writers import rendered, write_gif

ROWS_IN_A_COLUMN = 24  # more latents go into two columns
ORDERS = ("rung", "kl", "factor")
RUNG_WIDTH, BETWEEN_RUNGS, AXIS_HEIGHT = 0.78, 0.06, 0.24  # inches
NOTE_WIDTH = 1.7  # inches of the name of a factor
NOT_ACTIVE = "* not active: the means of its posteriors hardly vary"


class Sweep(NamedTuple):
    """What a traversal shows: the images of every latent at every value, and what is known of the latents."""

    images: np.ndarray  # (latents, steps, height, width, channels)
    order: list[tuple[int, int]]  # (rung, column of the codes), in the order to show them in
    names: list[str]  # by column
    notes: list[str]  # by column
    ends: tuple[str, str]  # what the first and the last value are
    locked: set[int]  # rungs


def traversals(
    model: keras.Model,
    around: Any = None,
    steps: int = 9,
    span: float = 3.0,
    data: Any = None,
    images: Any = None,
    quantiles: tuple[float, float] | None = None,
    order: str = "rung",
    information: Any = None,
) -> Figure:
    """One row per latent: that latent swept, all the others held (figures 4 and 7).

    Args:
        model: A `LadderVAE`.
        around: One image, `(1, height, width, channels)`, whose codes are held; `None`
            holds them at 0, the prior's mean.
        steps: Int >= 2. Images per row.
        span: Float > 0. Each latent goes from -span to span standard deviations of the prior.
        data: What the images are, for the title: a text, or the `GroundTruth` itself; `None` is no title.
        images: Float array `(n, height, width, channels)` in [0, 1], or `None`. With some images
            of the data (a few hundred do) the KL of each latent is written beside its row, in nats, and latents
            that are not active are marked with a star: the variance of their posterior means is at most 0.01.
        quantiles: `(low, high)`, 0 <= low < high <= 1: each latent goes from one quantile of its posterior means over
            `images` to the other, instead of `span`.
        order: How rows are ordered within their rung: `"rung"` as in the codes; `"kl"`, the largest first; or
            `"factor"`, by the factor that each holds.
        information: What `metrics.mutual_information` returns, or a `MetricCard` with it, or `None`. With it the
            factor that each latent knows most of, with the share of its entropy, is written beside the row, where that
            is at least 0.1.

    Returns:
        A figure with one axes per rung, the deepest on top; above 24 latents in two columns.

    Raises:
        TypeError, ValueError: If an argument is unfit, or `quantiles` or an `order` lacks what it goes by.

    Example:
        >>> from keras_provlae import VLAE
        >>> model = VLAE((8, 8, 1), num_rungs=2, latent_dim=(1, 2), channels=4, dense=8)
        >>> [len(axes.get_yticks()) for axes in traversals(model, steps=3).axes]
        [2, 1]

    Source: Li et al. (2020), figures 4, 7, 8 and 9.
    """
    sweep = _sweep(model, around, steps, span, images, quantiles, order, information)
    num_columns = 1 if len(sweep.order) <= ROWS_IN_A_COLUMN else 2
    left = RUNG_WIDTH + text_width(sweep.names) + 0.1
    right = text_width(sweep.notes, points=8) + 0.15
    how = geometry(sweep.images.shape, steps, WIDTH / num_columns - left - right)
    columns = _split(sweep.order, -(-len(sweep.order) // num_columns))
    width = left + how.inches(1, steps)[0] + right
    foot = _foot(sweep, images is not None, information is not None)
    top = 0.05 if data is None else TITLE_HEIGHT
    bottom = AXIS_HEIGHT + (0.17 * len(foot) + 0.05 if foot else 0)
    heights = [sum(how.inches(len(rows), steps)[1] + BETWEEN_RUNGS for _, rows in column) for column in columns]
    width = max(width, (text_width(foot, points=8) + 0.2) / num_columns)
    figure = Figure(figsize=(width * num_columns, top + max(heights) + bottom))
    for number, column in enumerate(columns):
        height = top
        for place_in_column, (rung, rows) in enumerate(column):
            shown = sweep.images[rows].reshape(-1, *sweep.images.shape[2:])
            axes = add_grid(figure, number * width + left, height, shown, len(rows), how)
            _label(axes, model, sweep, rung, rows, how)
            height += how.inches(len(rows), steps)[1] + BETWEEN_RUNGS
            if place_in_column == len(column) - 1:
                centers = how.column_centers(steps)
                axes.set_xticks([centers[0], centers[-1]], sweep.ends, fontsize=8)
    write(figure, 0.1, figure.get_figheight() - 0.04, "\n".join(foot))
    return name_data(figure, data)


def _foot(sweep, with_kl, with_factors):
    """The lines below a figure that say what its marks and numbers are."""
    starred = any(name.endswith("*") for name in sweep.names)
    numbers = ["KL in nats"] * with_kl + [
        f"the factor that the latent knows most of, from {HELD:g} of its entropy on"
    ] * with_factors
    return [NOT_ACTIVE] * starred + ["; ".join(numbers)] * bool(numbers)


def traversals_gif(
    model: keras.Model,
    path: str | os.PathLike,
    around: Any = None,
    steps: int = 16,
    span: float = 3.0,
    data: Any = None,
    images: Any = None,
    quantiles: tuple[float, float] | None = None,
    fps: float = 10,
    dpi: float = 100,
) -> Path:
    """An animation of every latent at once, each in an image of its own, all the way there and back.

    Args:
        model, around, span, data, images, quantiles: As `traversals`.
        path: Where the GIF goes.
        steps: Int >= 2. Values from one end to the other; the animation has 2 (steps - 1) frames.
        fps: Float > 0. Frames per second.
        dpi: Float > 0. Dots per inch; the picture is up to 8.3 inches wide.

    Returns:
        The path.

    Raises:
        ImportError: If imageio is not installed.
        TypeError, ValueError: As `traversals`.
    """
    optional("imageio.v3", "examples", "imageio")  # before anything is drawn
    sweep = _sweep(model, around, steps, span, images, quantiles, "rung", None)
    figure, shown, dot, how = _cells(model, sweep, data)
    frames = []
    for step in range(steps):
        for image, columns in shown:
            image.set_data(grid(sweep.images[columns, step], 1, how))
        dot.set_xdata([step / (steps - 1)])
        frames.append(rendered(figure, dpi))
    return write_gif([*frames, *frames[-2:0:-1]], path, fps)


def _sweep(model, around, steps, span, images, quantiles, order, information):
    check_count("steps", steps, least=2)
    if not span > 0:
        raise ValueError(f"`span` must be positive. Received: span={span}.")
    if order not in ORDERS:
        raise ValueError(f"`order` must be one of {', '.join(ORDERS)}. Received: {order!r}.")
    if images is None and (quantiles is not None or order == "kl"):
        raise ValueError("`quantiles` and `order='kl'` are those of data: give some `images` as well.")
    if information is None and order == "factor":
        raise ValueError("`order='factor'` goes by what `metrics.mutual_information` returns: give it as well.")
    held = held_codes(model, around)
    latents = held.shape[1]
    use = None if images is None else latent_use(*encode_all(model, as_images(images, least=2)))
    information = _information(information, latents)
    values, ends = _values(latents, steps, span, quantiles, use)
    codes = np.repeat(held, latents * steps, axis=0).reshape(latents, steps, latents)
    codes[np.arange(latents), :, np.arange(latents)] = values
    decoded = decode_all(model, codes.reshape(-1, latents))
    names, _ = latent_names(model.rung_slices, latents)
    active = information.active if information is not None else np.ones(latents, bool) if use is None else use.active
    return Sweep(
        decoded.reshape(latents, steps, *decoded.shape[1:]),
        _order(model, order, use, information),
        star(names, active),
        _notes(latents, use, information),
        ends,
        locked_rungs(model),
    )


def _information(given, latents):
    """The mutual information in what was given, of a model with so many latents."""
    if given is None:
        return None
    information = getattr(given, "results", {}).get("mutual_information", given)
    if not hasattr(information, "latent_entropy"):
        raise TypeError(
            "`information` must be what `metrics.mutual_information` returns, or a card of `metrics.evaluate` that has "
            f"it. Received: {type(given).__name__}."
        )
    if len(information.active) != latents:
        raise ValueError(
            f"`information` must be that of this model, with {latents} latents. Received: {len(information.active)}."
        )
    return information


def _values(latents, steps, span, quantiles, use):
    """The values of each latent, `(latents, steps)`, and what to call the first and the last."""
    if quantiles is None:
        return np.tile(np.linspace(-span, span, steps), (latents, 1)), (f"{-span:.3g} sd", f"{span:.3g} sd")
    if not isinstance(quantiles, Sequence) or len(quantiles) != 2 or not 0 <= quantiles[0] < quantiles[1] <= 1:
        raise ValueError(f"`quantiles` must be (low, high), 0 <= low < high <= 1. Received: quantiles={quantiles}.")
    low, high = quantiles
    ends = np.quantile(use.mean, [low, high], axis=0)
    return np.linspace(*ends, steps, axis=1), (f"{100 * low:.3g} %", f"{100 * high:.3g} %")


def _order(model, order, use, information):
    rows = [(rung, column) for rung, columns in model.rung_slices for column in range(columns.start, columns.stop)]
    if order == "kl":
        return sorted(rows, key=lambda row: (-row[0], -use.kl[row[1]]))
    if order == "factor":
        held = held_factors(information)
        factors = len(information.mi)
        return sorted(rows, key=lambda row: (-row[0], factors if held[row[1]][0] is None else held[row[1]][0]))
    return rows


def _notes(latents, use, information):
    """What stands beside the row of each latent."""
    parts = [[] for _ in range(latents)]
    if use is not None:
        for part, kl in zip(parts, use.kl, strict=True):
            part.append(f"KL {kl:.2f}")
    if information is not None:
        names = information.factor_names or [f"factor {factor}" for factor in range(len(information.mi))]
        for part, (factor, share) in zip(parts, held_factors(information), strict=True):
            part += [] if factor is None else [f"{shorten(names[factor], NOTE_WIDTH, 8)} {share:.2f}"]
    return ["  ".join(part) for part in parts]


def _split(order, rows):
    """The rows in columns of so many, each a list of (rung, codes' columns): a rung may go on in the next."""
    columns = []
    for start in range(0, len(order), rows):
        column = {}
        for rung, latent in order[start : start + rows]:
            column.setdefault(rung, []).append(latent)
        columns.append(list(column.items()))
    return columns


def _label(axes, model, sweep, rung, rows, how):
    """The names of the rows, the rung with a bracket on the left, what is known of each latent on the right."""
    color = rung_color(model, rung)
    label_rows(axes, [sweep.names[row] for row in rows], how, [color] * len(rows))
    width = how.inches(1, sweep.images.shape[1])[0]
    bracket = -(text_width(sweep.names) + 0.1) / width
    axes.plot([bracket, bracket], [0.03, 0.97], color=color, linewidth=3, transform=axes.transAxes, clip_on=False)
    name = f"rung {rung}" + ("\n(locked)" if rung in sweep.locked else "")
    style = {"fontsize": 9, "fontweight": "bold", "color": ink(color), "linespacing": 0.95}
    axes.text(bracket - 0.07 / width, 0.5, name, transform=axes.transAxes, ha="right", va="center", **style)
    for row, center in zip(rows, how.row_centers(len(rows)), strict=True):
        axes.text(
            1 + 0.05 / width, center, sweep.notes[row], transform=axes.get_yaxis_transform(), va="center", fontsize=8
        )


def _cells(model, sweep, data):
    """The figure of an animation, its images with the latents they show, and the dot that tells the value."""
    shape = sweep.images.shape
    widest = max(columns.stop - columns.start for _, columns in model.rung_slices)
    room = WIDTH - RUNG_WIDTH
    pitch = text_width(sweep.names, points=8)
    per_row = min(widest, columns_that_fit(shape, room, 0.6), int(room / pitch))
    how = geometry(shape, per_row, room, largest=0.9, column_pitch=pitch)
    chunks = [
        (rung, list(range(start, min(start + per_row, columns.stop))))
        for rung, columns in model.rung_slices
        for start in range(columns.start, columns.stop, per_row)
    ]
    width, height = how.inches(1, per_row)
    top = 0.05 if data is None else TITLE_HEIGHT
    note = 0.15 if any(name.endswith("*") for name in sweep.names) else 0.0
    figure = Figure(figsize=(RUNG_WIDTH + max(width, 1.6), top + len(chunks) * (height + AXIS_HEIGHT) + 0.45 + note))
    if note:
        write(figure, 0.05, figure.get_figheight() - 0.04, NOT_ACTIVE.partition(":")[0])
    shown = []
    for number, (rung, columns) in enumerate(chunks):
        axes = add_grid(figure, RUNG_WIDTH, top + number * (height + AXIS_HEIGHT), sweep.images[columns, 0], 1, how)
        names = [sweep.names[column] for column in columns]
        axes.set_xticks(how.column_centers(len(columns)), names, fontsize=8)
        for text in axes.get_xticklabels():
            text.set_color(ink(rung_color(model, rung)))
        name = f"rung {rung}" + ("\n(locked)" if rung in sweep.locked else "")
        label_rows(axes, [name], how, [rung_color(model, rung)])
        shown.append((axes.images[0], columns))
    name_data(figure, data)
    return figure, shown, _add_slider(figure, sweep.ends, max(width, 1.6), 0.32 + note), how


def _add_slider(figure, ends, width, above_bottom):
    """A line from the first value to the last with a dot on it, at the bottom of the figure."""
    label = text_width(ends, points=8) + 0.12
    length = width - 2 * label
    axes = place(figure, RUNG_WIDTH + label, figure.get_figheight() - above_bottom, length, 0.2)
    axes.plot([0, 1], [0, 0], color="silver", linewidth=2, solid_capstyle="round")
    (dot,) = axes.plot([0], [0], "o", color="black", markersize=8, clip_on=False)
    for x, end, side in (-0.12 / length, ends[0], "right"), (1 + 0.12 / length, ends[1], "left"):
        axes.text(x, 0, end, ha=side, va="center", fontsize=8)
    axes.set_xlim(0, 1)
    axes.set_axis_off()
    return dot
