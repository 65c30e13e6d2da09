"""Traversals of every latent."""

from typing import Any

import keras

from keras_provlae.thresholds import HELD_SHARE
from keras_provlae.visualization.grids import add_grid, geometry, label_rows
from keras_provlae.visualization.picture import Picture, own_style
from keras_provlae.visualization.style import TITLE_HEIGHT, WIDTH, ink, name_data, rung_color, text_width, write
from keras_provlae.visualization.traversal_images import make_sweep

ROWS_IN_A_COLUMN = 24  # more latents are split into two columns
RUNG_WIDTH, BETWEEN_RUNGS, AXIS_HEIGHT = 0.78, 0.06, 0.24  # inches
NOT_ACTIVE = "* not active: its posterior means hardly vary"


@own_style()
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
) -> Picture:
    """Shows a row per latent: that latent swept, all others held (figures 4 and 7).

    Args:
        model: A `LadderVAE`.
        around: One image, `(1, height, width, channels)`, whose codes are held; `None`
            holds them at 0, the prior's mean.
        steps: Int >= 2. Images per row.
        span: Float > 0. Each latent goes from -span to span standard deviations of the prior.
        data: Name of the data for the title: a text, or the `GroundTruth` itself; `None` writes no title.
        images: Float array `(n, height, width, channels)` in [0, 1], or `None`. With images of the data (a few hundred
            are enough), the KL of each latent is written beside its row, in nats, and a star marks latents that are not
            active: the variance of their posterior means is at most 0.01.
        quantiles: `(low, high)`, 0 <= low < high <= 1: each latent goes from one quantile of its posterior means over
            `images` to the other, instead of `span`.
        order: Order of the rows within a rung: `"rung"` as in the codes, `"kl"` by descending KL, or `"factor"` by the
            factor that each latent holds.
        information: Result of `metrics.mutual_information`, a `MetricCard` with it, or `None`. With it, the factor that
            each latent is most informative about is written beside the row, with I(z; v) / H(v), if that is at least
            0.1.

    Returns:
        A figure with one axes per rung, the deepest on top; more than 24 latents are split into two columns.

    Raises:
        TypeError, ValueError: If an argument is invalid, or `quantiles` or `order` needs one that is missing.

    Example:
        >>> from keras_provlae import VLAE
        >>> model = VLAE((8, 8, 1), num_rungs=2, latent_dim=(1, 2), channels=4, dense=8)
        >>> [len(axes.get_yticks()) for axes in traversals(model, steps=3).axes]
        [2, 1]

    Source: Li et al. (2020), figures 4, 7, 8 and 9.
    """
    sweep = make_sweep(model, around, steps, span, images, quantiles, order, information)
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
    figure = Picture(figsize=(width * num_columns, top + max(heights) + bottom))
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
    """Lines below the figure that explain its marks and numbers."""
    numbers = ["KL in nats"] * with_kl
    numbers += [f"main factor v of the latent, with I(z; v) / H(v) (if at least {HELD_SHARE:g})"] * with_factors
    return [NOT_ACTIVE] * sweep.starred + ["; ".join(numbers)] * bool(numbers)


def _split(order, rows):
    """Splits the latents into columns of `rows`, each a list of (rung, latents); a rung may continue in the next."""
    columns = []
    for start in range(0, len(order), rows):
        column = {}
        for rung, latent in order[start : start + rows]:
            column.setdefault(rung, []).append(latent)
        columns.append(list(column.items()))
    return columns


def _label(axes, model, sweep, rung, rows, how):
    """Writes the names of the rows, the rung with a bracket on the left, and the notes on the right."""
    color = rung_color(model, rung)
    label_rows(axes, [sweep.names[row] for row in rows], how, [color] * len(rows))
    width = how.inches(1, sweep.images.shape[1])[0]
    bracket = -(text_width(sweep.names) + 0.1) / width
    axes.plot([bracket, bracket], [0.03, 0.97], color=color, linewidth=3, transform=axes.transAxes, clip_on=False)
    style = {"fontsize": 9, "fontweight": "bold", "color": ink(color), "linespacing": 0.95}
    axes.text(
        bracket - 0.07 / width, 0.5, sweep.rung_name(rung), transform=axes.transAxes, ha="right", va="center", **style
    )
    for row, center in zip(rows, how.row_centers(len(rows)), strict=True):
        axes.text(
            1 + 0.05 / width, center, sweep.notes[row], transform=axes.get_yaxis_transform(), va="center", fontsize=8
        )
