"""Animated traversals of every latent."""

import os
from pathlib import Path
from typing import Any

import keras

from keras_provlae.visualization.grids import add_grid, columns_that_fit, geometry, grid, label_rows
from keras_provlae.visualization.picture import Picture, own_style
from keras_provlae.visualization.style import TITLE_HEIGHT, WIDTH, ink, name_data, place, rung_color, text_width, write
from keras_provlae.visualization.traversal_images import make_sweep
from keras_provlae.visualization.traversals import AXIS_HEIGHT, RUNG_WIDTH
from keras_provlae.visualization.writers import rendered, write_gif

NOT_ACTIVE = "* not active"


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
    """Animates the traversals of all latents at once, each in its own image, forward and back.

    Args:
        model, around, span, data, images, quantiles: As `traversals`.
        path: Path of the GIF.
        steps: Int >= 2. Values of each latent; the animation has 2 (steps - 1) frames.
        fps: Float > 0. Frames per second.
        dpi: Float > 0. Dots per inch; the picture is up to 8.3 inches wide.

    Returns:
        The path.

    Raises:
        TypeError, ValueError: As `traversals`.
    """
    sweep = make_sweep(model, around, steps, span, images, quantiles)
    figure, shown, dot, how = _cells(model, sweep, data)
    frames = []
    for step in range(steps):
        for image, columns in shown:
            image.set_data(grid(sweep.images[columns, step], 1, how))
        dot.set_xdata([step / (steps - 1)])
        frames.append(rendered(figure, dpi))
    return write_gif([*frames, *frames[-2:0:-1]], path, fps)


@own_style()
def _cells(model, sweep, data):
    """Lays out the animation: `(figure, [(image, latents it shows)], slider dot, Geometry)`."""
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
    note = 0.15 if sweep.starred else 0.0
    figure = Picture(figsize=(RUNG_WIDTH + max(width, 1.6), top + len(chunks) * (height + AXIS_HEIGHT) + 0.45 + note))
    if note:
        write(figure, 0.05, figure.get_figheight() - 0.04, NOT_ACTIVE)
    shown = []
    for number, (rung, columns) in enumerate(chunks):
        axes = add_grid(figure, RUNG_WIDTH, top + number * (height + AXIS_HEIGHT), sweep.images[columns, 0], 1, how)
        names = [sweep.names[column] for column in columns]
        axes.set_xticks(how.column_centers(len(columns)), names, fontsize=8)
        for text in axes.get_xticklabels():
            text.set_color(ink(rung_color(model, rung)))
        label_rows(axes, [sweep.rung_name(rung)], how, [rung_color(model, rung)])
        shown.append((axes.images[0], columns))
    name_data(figure, data)
    return figure, shown, _add_slider(figure, sweep.ends, max(width, 1.6), 0.32 + note), how


def _add_slider(figure, ends, width, above_bottom):
    """Draws a slider at the bottom of the figure, from the first value to the last; returns its dot."""
    label = text_width(ends, points=8) + 0.16  # "%" is wider than a letter
    length = width - 2 * label
    axes = place(figure, RUNG_WIDTH + label, figure.get_figheight() - above_bottom, length, 0.2)
    axes.plot([0, 1], [0, 0], color="silver", linewidth=2, solid_capstyle="round")
    (dot,) = axes.plot([0], [0], "o", color="black", markersize=8, clip_on=False)
    for x, end, side in (-0.12 / length, ends[0], "right"), (1 + 0.12 / length, ends[1], "left"):
        axes.text(x, 0, end, ha=side, va="center", fontsize=8)
    axes.set_xlim(0, 1)
    axes.set_axis_off()
    return dot
