"""Grids of images, drawn to scale.

Images of one or two channels show the first in gray; those of three or more show the first three as RGB.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from keras_provlae.visualization.style import ink, place

LARGEST, SMALLEST = 1.0, 0.5  # inches of the longer side of an image, if there is room
LEAST_PITCH = 0.19  # inches from row to row, so that labels do not touch


class Geometry(NamedTuple):
    """Sizes of a grid of images."""

    height: int  # pixels of one image
    width: int
    scale: float  # inches per pixel
    pad: int  # pixels between columns, and around
    row_pad: int  # pixels between rows, and around

    def inches(self, rows: int, columns: int) -> tuple[float, float]:
        """`(width, height)` of a grid."""
        return (
            (columns * (self.width + self.pad) + self.pad) * self.scale,
            (rows * (self.height + self.row_pad) + self.row_pad) * self.scale,
        )

    def row_centers(self, rows: int) -> list[float]:
        """Center of each row, in pixels."""
        return [self.row_pad + (self.height + self.row_pad) * row + self.height / 2 - 0.5 for row in range(rows)]

    def column_centers(self, columns: int) -> list[float]:
        """Center of each column, in pixels."""
        return [self.pad + (self.width + self.pad) * column + self.width / 2 - 0.5 for column in range(columns)]


def geometry(
    image_shape: Sequence[int], columns: int, width: float, largest: float | None = None, column_pitch: float = 0.0
) -> Geometry:
    """Sizes the images of a grid as large as fits.

    Args:
        image_shape: `(height, width, channels)`, possibly with leading axes.
        columns: Int >= 1. Images in a row.
        width: Float. Inches for a row.
        largest: Float or `None`. Maximal inches of the longer side of an image; `None` derives it from the pixels.
        column_pitch: Float. Minimal inches from column to column, for labels above or below them.
    """
    high, wide = image_shape[-3:-1]
    longer = max(high, wide)
    pad = max(2, longer // 14)  # still visible when large images are drawn small
    if largest is None:
        largest = float(np.clip(longer / 64, SMALLEST, LARGEST))
    scale = min(largest / longer, width / (columns * (wide + pad) + pad))
    column_pad = max(pad, int(column_pitch / scale) - wide)
    return Geometry(high, wide, scale, column_pad, max(pad, int(np.ceil(LEAST_PITCH / scale)) - high))


def columns_that_fit(image_shape: Sequence[int], width: float, largest: float) -> int:
    """Number of images of that size that fit into a row, at least one."""
    one = geometry(image_shape, 1, np.inf, largest)
    return max(int((width / one.scale - one.pad) // (one.width + one.pad)), 1)


def grid(images: np.ndarray, rows: int, how: Geometry) -> np.ndarray:
    """Tiles `(n, height, width, channels)` into one array, row by row, white in between and at the end."""
    n, height, width, channels = images.shape
    shown = images[..., :3] if channels >= 3 else images[..., :1]
    columns = -(-n // rows)
    pixels = np.ones(
        (rows * (height + how.row_pad) + how.row_pad, columns * (width + how.pad) + how.pad, shown.shape[-1])
    )
    for index, image in enumerate(shown):
        top = how.row_pad + index // columns * (height + how.row_pad)
        left = how.pad + index % columns * (width + how.pad)
        pixels[top : top + height, left : left + width] = image
    return pixels


def add_grid(
    figure: Figure, left: float, top: float, images: np.ndarray, rows: int, how: Geometry, faint: bool = False
) -> Axes:
    """Adds axes with a grid of images.

    Args:
        figure: A matplotlib figure.
        left, top: Floats. Inches from the upper left corner of the figure.
        images: Float array `(n, height, width, channels)` in [0, 1], row by row.
        rows: Int >= 1.
        how: A `Geometry`.
        faint: Bool. Whether to draw the images pale.

    Returns:
        The axes, whose coordinates are pixels of the images.
    """
    axes = place(figure, left, top, *how.inches(rows, -(-len(images) // rows)))
    pixels = grid(images, rows, how)
    # `interpolation="nearest"` would drop lines of pixels in small images
    axes.imshow(
        pixels, cmap="gray", vmin=0, vmax=1, aspect="auto", interpolation="antialiased", alpha=0.35 if faint else None
    )
    axes.set_xticks([])
    axes.set_yticks([])
    axes.tick_params(length=0, pad=2)
    axes.spines[:].set_visible(False)
    return axes


def label_rows(axes: Axes, labels: Sequence[str], how: Geometry, colors: Sequence[str] | None = None) -> None:
    """Writes a label to the left of each row."""
    axes.set_yticks(how.row_centers(len(labels)), labels, fontsize=9)
    for text, color in zip(axes.get_yticklabels(), colors or [], strict=False):
        text.set_color(ink(color))
