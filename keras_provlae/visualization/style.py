"""What every figure shares: one colour per rung, told apart by colour-blind readers too, and the name of the data."""

from typing import Any

import keras
from matplotlib.figure import Figure

_COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#000000"]  # Okabe and Ito


def rung_color(model_or_num_rungs: keras.Model | int, rung: int) -> str:
    """The colour of a rung: the deepest is always the first of the palette.

    Args:
        model_or_num_rungs: A model with `num_rungs`, or that number.
        rung: Int 1 .. L.

    Returns:
        A hexadecimal colour.

    Example:
        >>> rung_color(3, 3)
        '#0072B2'
    """
    num_rungs = getattr(model_or_num_rungs, "num_rungs", model_or_num_rungs)
    return _COLORS[(num_rungs - rung) % len(_COLORS)]


def name_data(figure: Figure, data: Any) -> Figure:
    """Writes what the data are, `str(data)`, over a figure; nothing for `None`."""
    if data is not None:
        figure.suptitle(str(data), fontsize=9, color="dimgray")
    return figure
