"""Grids of images, drawn to scale: every pixel of an image takes the same part of an inch.

Images of one or two channels are shown by their first, in gray; of three or more by their first
three, as red, green and blue.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from keras_provlae.visualization.style import ink, place

LARGEST, SMALLEST = 1.0, 0.5  # inches of the longer side of an image, where there is room
LEAST_PITCH = 0.19  # inches from row to row, so that their labels do not touch


class Geometry(NamedTuple):
    """How a grid of images is drawn."""

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
        """Where the middle of each row is, in pixels."""
        return [self.row_pad + (self.height + self.row_pad) * row + self.height / 2 - 0.5 for row in range(rows)]

    def column_centers(self, columns: int) -> list[float]:
        """Where the middle of each column is, in pixels."""
        return [self.pad + (self.width + self.pad) * column + self.width / 2 - 0.5 for column in range(columns)]


def geometry(
    image_shape: Sequence[int], columns: int, width: float, largest: float | None = None, column_pitch: float = 0.0
) -> Geometry:
    """The largest images of which so many fit beside one another.

    Args:
        image_shape: `(height, width, channels)`, or longer: the last three count.
        columns: Int >= 1. Images in a row.
        width: Float. Inches that a row may take.
        largest: Float or `None`. Inches of the longer side of an image, at most; `None` goes by its pixels.
        column_pitch: Float. Inches from column to column, at least, for what is written above or below them.

    Returns:
        A `Geometry`.
    """
    high, wide = image_shape[-3:-1]
    longer = max(high, wide)
    pad = max(2, longer // 14)  # enough to be seen when large images are drawn small
    if largest is None:
        largest = float(np.clip(longer / 64, SMALLEST, LARGEST))
    scale = min(largest / longer, width / (columns * (wide + pad) + pad))
    column_pad = max(pad, int(column_pitch / scale) - wide)
    return Geometry(high, wide, scale, column_pad, max(pad, int(np.ceil(LEAST_PITCH / scale)) - high))


def columns_that_fit(image_shape: Sequence[int], width: float, largest: float) -> int:
    """How many images of that size fit into a row: at least one."""
    one = geometry(image_shape, 1, np.inf, largest)
    return max(int((width / one.scale - one.pad) // (one.width + one.pad)), 1)


def grid(images: np.ndarray, rows: int, how: Geometry) -> np.ndarray:
    """`(n, height, width, channels)` in one array, row by row, white between and where images run out."""
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
    """Axes that show images in a grid, at a place in inches from the upper left corner.

    Args:
        figure: Where it goes.
        left, top: Floats, inches.
        images: Float array `(n, height, width, channels)` in [0, 1], row by row.
        rows: Int >= 1.
        how: A `Geometry`.
        faint: Bool. Pale, for what does not count.

    Returns:
        The axes, in pixels of the images.
    """
    axes = place(figure, left, top, *how.inches(rows, -(-len(images) // rows)))
    pixels = grid(images, rows, how)
    # no `interpolation="nearest"`: where images are drawn small it drops lines of pixels
    axes.imshow(
        pixels, cmap="gray", vmin=0, vmax=1, aspect="auto", interpolation="antialiased", alpha=0.35 if faint else None
    )
    axes.set_xticks([])
    axes.set_yticks([])
    axes.tick_params(length=0, pad=2)
    axes.spines[:].set_visible(False)
    return axes


def label_rows(axes: Axes, labels: Sequence[str], how: Geometry, colors: Sequence[str] | None = None) -> None:
    """Writes a name to the left of each row."""
    axes.set_yticks(how.row_centers(len(labels)), labels, fontsize=9)
    for text, color in zip(axes.get_yticklabels(), colors or [], strict=False):
        text.set_color(ink(color))
