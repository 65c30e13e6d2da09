"""Heatmaps of the information that latents and rungs have about factors."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_provlae.visualization.latent_information import as_information, names_of_factors, result_in
from keras_provlae.visualization.picture import Picture, own_style
from keras_provlae.visualization.style import WIDTH, ink, latent_labels, letters, name_data, rung_color, star

LEAST_CELL = 0.26  # inches: the narrowest cell with room for a number


@own_style()
def rung_factor_heatmap(rung_factors: Any, data: Any = None) -> Picture:
    """Plots I(z_l; v) / H(v): the information of each rung about each factor, normalized by the factor's entropy.

    Args:
        rung_factors: Result of `metrics.rung_factor_map`, or a `MetricCard` with it.
        data: Name of the data for the title: a text, or the `GroundTruth` itself; `None` takes that of the card.

    Returns:
        A figure with one axes: a row per rung, the deepest on top, and a column per factor.

    Raises:
        TypeError: If `rung_factors` is neither.
        ValueError: If the card does not have the result.

    Source: Li et al. (2020), section 4.
    """
    rung_factors, data = result_in(rung_factors, "rung_factor_map", data)
    if not hasattr(rung_factors, "holders"):
        raise TypeError(
            f"`rung_factors` must be the result of `metrics.rung_factor_map`. Received: {type(rung_factors).__name__}."
        )
    labels = [f"rung {rung}" for rung in rung_factors.rungs]
    colors = [rung_color(len(labels), rung) for rung in rung_factors.rungs]
    figure = _heatmap(rung_factors.normalized, labels, rung_factors.factor_names, "I(zₗ; v) / H(v)", colors)
    return name_data(figure, data)


@own_style()
def mutual_information_heatmap(
    information: Any, rung_slices: Any = None, data: Any = None, latent_names: Sequence[str] | None = None
) -> Picture:
    """Plots I(z_j; v) / H(v), the matrix behind MIG and MIG-sup: normalized information of each latent.

    Args:
        information: Result of `metrics.mutual_information`, or a `MetricCard` with it.
        rung_slices: `model.rung_slices`, to name and color the latents by rung; or `None`.
        data: Name of the data for the title: a text, or the `GroundTruth` itself; `None` takes that of the card.
        latent_names: `model.latent_names`, or `None`.

    Returns:
        A figure with one axes: a row per latent, those of the deepest rung on top, and a column per factor. A star
        marks latents that are not active.

    Raises:
        TypeError: If `information` is neither.
        ValueError: If the card does not have the result.

    Source: Li et al. (2020), section 3.4.
    """
    information, data = as_information(information, data)
    names, colors = latent_labels(rung_slices, len(information.active), latent_names)
    labels = star(names, information.active)
    figure = _heatmap(information.normalized.T, labels, names_of_factors(information), "I(zⱼ; v) / H(v)", colors)
    if not information.active.all():
        figure.axes[0].set_xlabel("* not active", fontsize=8, loc="left")
    return name_data(figure, data)


def _heatmap(matrix, rows, columns, title, colors):
    """Draws a matrix in [0, 1], with the number in each cell if there is room; NaN is blank."""
    longest = max(map(letters, columns))
    wide = max(0.62, 0.085 * longest)
    cell_width = min(wide, (WIDTH - 1.9) / len(columns))  # names without room are rotated
    cell_height = 0.34 if len(rows) <= 24 else 0.22
    rotated_height = 0 if cell_width == wide else 0.08 * longest
    size = (max(cell_width * len(columns), 1.4) + 1.9, max(cell_height * len(rows), 1.0) + 0.9 + rotated_height)
    figure = Picture(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(np.ma.masked_invalid(matrix), cmap="Blues", vmin=0, vmax=1, aspect="auto")
    points = 8 if cell_width >= 0.34 else 6
    for (row, column), value in np.ndenumerate(matrix if cell_width >= LEAST_CELL else np.empty((0, 0))):
        text = "-" if np.isnan(value) else f"{value:.2f}"
        axes.text(
            column, row, text, ha="center", va="center", fontsize=points, color="white" if value > 0.6 else "black"
        )
    axes.set_yticks(range(len(rows)), rows, fontsize=9)
    axes.set_xticks(range(len(columns)), columns, fontsize=9, rotation=90 if rotated_height else 0)
    for text, color in zip(axes.get_yticklabels(), colors, strict=True):
        text.set_color(ink(color))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, ticks=[0, 0.5, 1], pad=0.02)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8)
    bar.set_label(title, fontsize=9)
    return figure
