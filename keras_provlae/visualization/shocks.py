"""The loss around each unlock."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.ticker import LogFormatter

from keras_provlae.growth.monitor import WINDOW, rise
from keras_provlae.visualization.picture import Picture, own_style
from keras_provlae.visualization.style import WIDTH, ink, name_data, rung_color

ACROSS = 3  # unlocks in a line


@own_style()
def growth_shocks(shocks: Sequence[Mapping[str, Any]], num_rungs: int | None = None, data: Any = None) -> Picture:
    """Plots the negative ELBO before and after every unlock, one panel each.

    Args:
        shocks: `GrowthCallback.shocks` or a part of it: one dict per unlock and attempt.
        num_rungs: Int L, for the names and colors of the rungs; `None` is one more than the last stage.
        data: Name of the data for the title: a text, or the `GroundTruth` itself; `None` writes no title.

    Returns:
        A figure with one axes per unlock with a known loss before it: a line for that loss, and the means since the
        unlock over steps (logarithmic). The title has the largest rise of a mean over at least 50 steps (else of the
        last mean), or why the attempt was undone.

    Raises:
        ValueError: If there is no such unlock.

    Example:
        >>> after = [(1, 103.0), (2, 102.0), (4, 99.0)]
        >>> shock = {"stage": 1, "iteration": 500, "fade_in_steps": 100, "before": 100.0, "after": after}
        >>> growth_shocks([shock]).axes[0].get_title()
        'rung 1, step 500: -1.0%'

    Source: Li et al. (2020), section 3.3.
    """
    known = [shock for shock in shocks if shock["before"] is not None and shock["after"]]
    if not known:
        raise ValueError(
            "`shocks` must have an unlock with a loss before and after it, so after the first steps of `fit`. "
            f"Received: {len(shocks)} unlocks."
        )
    num_rungs = num_rungs or 1 + max(shock["stage"] for shock in known)
    across = min(ACROSS, len(known))
    down = -(-len(known) // across)
    figure = Picture(figsize=(WIDTH, 2.4 * down + 0.3), layout="constrained")
    all_axes = figure.subplots(down, across, squeeze=False, sharey=True).ravel()
    for axes, shock in zip(all_axes, known, strict=False):
        _draw(axes, shock, num_rungs)
    for axes in all_axes[len(known) :]:
        axes.remove()
    for axes in all_axes[::across]:
        axes.set_ylabel("negative ELBO [nats]", fontsize=9)
    return name_data(figure, data)


def _draw(axes, shock, num_rungs):
    rung = num_rungs - shock["stage"]
    color = ink(rung_color(num_rungs, rung))
    steps, values = zip(*shock["after"], strict=True)
    axes.axhline(shock["before"], color="#777777", linewidth=1, linestyle="--", label="before")
    axes.plot(steps, values, color=color, marker="o", markersize=3, linewidth=1, label="since the unlock")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(LogFormatter())  # the default writes math text
    axes.xaxis.set_minor_formatter(LogFormatter())
    settled = [value for step, value in shock["after"] if step >= WINDOW // 2] or values[-1:]
    risen = rise(max(settled), shock["before"])
    outcome = f"undone: {shock['problem'].split(':')[-1].strip()}" if "problem" in shock else f"{risen:+.1%}"
    axes.set_title(f"rung {rung}, step {shock['iteration']:,}: {outcome}", fontsize=9, color=color)
    axes.set_xlabel("steps since the unlock", fontsize=9)
    axes.legend(fontsize=8, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
