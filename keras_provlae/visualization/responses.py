"""Responses of each latent to each factor."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_provlae.metrics import active_latents
from keras_provlae.metrics.posteriors import check_factors, check_names, check_posterior, factor_name
from keras_provlae.visualization.picture import Picture, own_style
from keras_provlae.visualization.style import WIDTH, ink, latent_labels, name_data, shorten, star

LEAST_REACH, MOST_REACH = 3.0, 6.0  # bounds of the drawn range of z around 0
ROW_HEIGHT, LEAST_ROW_HEIGHT = 0.45, 0.2  # inches
FACTORS_ACROSS = 6


@own_style()
def latent_responses(
    mean: Any,
    log_var: Any,
    factors: Any,
    rung_slices: Any = None,
    factor_names: Sequence[str] | None = None,
    data: Any = None,
    latent_names: Sequence[str] | None = None,
) -> Picture:
    """Plots mean and spread of each latent against the value of each factor.

    A latent that encodes a single factor moves with that factor in a narrow band, and stays at 0 in a wide band for all
    others.

    Args:
        mean: Float array `(rows, latents)`, as `model.encode` returns it.
        log_var: Float array like `mean`: natural log of the variance.
        factors: Integer array `(rows, factors)`.
        rung_slices: `model.rung_slices`, to name and color the latents by rung; or `None`.
        factor_names: Names of the factors, or `None` for "factor 0" and so on.
        data: Name of the data for the title: a text, or the `GroundTruth` itself; `None` writes no title.
        latent_names: `model.latent_names`, or `None`.

    Returns:
        A figure with one axes per factor, up to six in a line. Each has a line and a band per latent, from top to
        bottom: the mean of z given the factor's value, and one standard deviation of z to both sides, including the
        posterior's own variance. Gray lines mark 0 and +-2; values beyond +-6 are clipped, and the figure says so.

    Raises:
        TypeError, ValueError: If an array is invalid.

    Example:
        >>> factors = np.stack(np.meshgrid(range(3), range(4)), axis=-1).reshape(-1, 2)
        >>> figure = latent_responses(factors - 1.0, np.full((12, 2), -4.0), factors, factor_names=["hue", "size"])
        >>> [axes.get_title() for axes in figure.axes]
        ['hue', 'size']
    """
    mean, log_var = check_posterior(mean, log_var)
    factors = check_factors(factors, len(mean))
    given = check_names(factor_names, len(factors.sizes))
    names, colors = latent_labels(rung_slices, mean.shape[1], latent_names)
    names = star(names, active_latents(mean))
    count = len(factors.sizes)
    across = min(count, FACTORS_ACROSS)
    lines = -(-count // across)
    row_height = max(ROW_HEIGHT if len(names) <= 16 else LEAST_ROW_HEIGHT, 1.2 / len(names))
    size = (min(WIDTH, max(1.0 + 1.6 * across, 4.5)), lines * (row_height * len(names) + 0.55) + 0.3)
    figure = Picture(figsize=size, layout="constrained")
    panels = figure.subplots(lines, across, sharey=True, squeeze=False)
    responses = [
        _response(mean, log_var, factors.labels[:, factor], values) for factor, values in enumerate(factors.sizes)
    ]
    extent = max(float((np.abs(center) + spread).max()) for center, spread in responses)
    reach = float(np.clip(extent, LEAST_REACH, MOST_REACH))
    for factor, axes in enumerate(panels.ravel()):
        if factor >= count:
            axes.remove()
            continue
        center, spread = responses[factor]
        _draw(axes, center, spread, colors, reach)
        axes.set_title(shorten(factor_name(given, factor), (size[0] - 1.0) / across), fontsize=9)
        if factor % across == 0:  # the others share its axis
            axes.set_yticks(_offsets(len(names), reach), names)
            for text, color in zip(axes.get_yticklabels(), colors, strict=True):
                text.set_color(ink(color))
    clipped = f";  clipped at ±{MOST_REACH:g}" if extent > MOST_REACH else ""
    note = f"index of the factor's value;  band: ±1 standard deviation of z\ngray: z = 0;  dotted: z = ±2{clipped}"
    figure.supxlabel(note, fontsize=8)
    return name_data(figure, data)


def _response(mean, log_var, labels, size):
    """Mean and standard deviation of z for each value of a factor: both `(size, latents)`."""
    counts = np.bincount(labels, minlength=size)[:, None]
    sums = np.zeros((3, size, mean.shape[1]))
    for part, values in enumerate((mean, np.square(mean, dtype="float64"), np.exp(log_var, dtype="float64"))):
        np.add.at(sums[part], labels, values)
    center, square, variance = sums / counts
    return center, np.sqrt(np.maximum(square - center**2, 0) + variance)


def _offsets(latents, reach):
    """The y of z = 0 for each latent, the first on top."""
    return -2 * reach * np.arange(latents)


def _draw(axes, center, spread, colors, reach):
    values, offsets = np.arange(len(center)), _offsets(len(colors), reach)
    single = len(values) == 1
    for latent, (offset, color) in enumerate(zip(offsets, colors, strict=True)):
        for level, style in (0, "-"), (2, ":"), (-2, ":"):
            axes.axhline(offset + level, color="gainsboro", linewidth=0.6, linestyle=style, zorder=0)
        # clipped, so that outliers of one latent do not cover its neighbors
        low, line, high = (
            offset + np.clip(center[:, latent] + part * spread[:, latent], -reach, reach) for part in (-1, 0, 1)
        )
        axes.fill_between(values, low, high, color=color, alpha=0.25, linewidth=0)
        axes.plot(values, line, ".-" if len(values) <= 12 or single else "-", color=color, markersize=4, linewidth=1.4)
    axes.set_ylim(offsets[-1] - reach, reach)
    axes.set_xlim(-0.3, len(values) - 0.7)
    axes.set_xticks([0, len(values) - 1] if not single else [0])
    axes.tick_params(labelsize=8, length=2)
    axes.tick_params(axis="y", length=0)
    axes.spines[:].set_visible(False)
