"""Style shared by all figures: width, rung colors, names of latents and of the data."""

import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import keras
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from keras_provlae.checks import check_latent_names

PALETTE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#000000"]  # Okabe and Ito
WIDTH = 8.3  # inches: the width of a README at 100 dots per inch
TITLE_HEIGHT = 0.32  # inches for the name of the data
LETTER = 0.62  # width of a letter, as a share of the font size
READABLE = 4.5  # contrast of text against white, WCAG 2.2
SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
Drawn = TypeVar("Drawn", bound=Figure)


def rung_color(model_or_num_rungs: keras.Model | int, rung: int) -> str:
    """Returns the color of a rung; the deepest always has the first of the palette.

    Args:
        model_or_num_rungs: A model with `num_rungs`, or that number.
        rung: Int 1 .. L.

    Returns:
        A hex color.

    Example:
        >>> rung_color(3, 3)
        '#0072B2'
    """
    num_rungs = getattr(model_or_num_rungs, "num_rungs", model_or_num_rungs)
    return PALETTE[(num_rungs - rung) % len(PALETTE)]


def ink(color: str) -> str:
    """Darkens a color until small text in it is readable on white.

    Example:
        >>> ink("#000000"), ink("#56B4E9") != "#56B4E9"
        ('#000000', True)
    """
    rgb = np.array(to_rgb(color))
    while 1.05 / (_luminance(rgb) + 0.05) < READABLE:
        rgb *= 0.95
    return to_hex(tuple(rgb)).upper()


def _luminance(rgb):
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def code_name(rung: int) -> str:
    """Name of a rung's code.

    Example:
        >>> code_name(12)
        'z₁₂'
    """
    return "z" + str(rung).translate(SUBSCRIPTS)


def latent_labels(rung_slices: Any, latents: int, given: Sequence[str] | None = None) -> tuple[list[str], list[str]]:
    """Names and colors of latents, by rung if the rungs are known.

    Args:
        rung_slices: As `model.rung_slices`, or `None`.
        latents: Int >= 1. Number of latents.
        given: As `model.latent_names`: what people call the latents, after their positions.

    Returns:
        `(names, colors)`, two lists with an entry per latent.
    """
    rung_slices = list(rung_slices.items() if hasattr(rung_slices, "items") else rung_slices or [])
    names, colors = [f"z[{latent}]" for latent in range(latents)], ["#000000"] * latents
    for rung, columns in rung_slices:
        for position, latent in enumerate(range(latents)[columns]):
            names[latent] = f"{code_name(rung)}[{position}]"
            colors[latent] = rung_color(len(rung_slices), rung)
    if given is not None:
        check_latent_names(given, latents)
        names = [f"{name} {word}".rstrip() for name, word in zip(names, given, strict=True)]
    return names, colors


def star(names: Sequence[str], active: Iterable[bool]) -> list[str]:
    """Returns the names, with a star after those of latents that are not active."""
    return [name if used else f"{name} *" for name, used in zip(names, active, strict=True)]


def name_data(figure: Drawn, data: Any) -> Drawn:
    """Writes `str(data)` as the title of a figure, or nothing for `None`; returns the figure."""
    if data is not None:
        # without a layout engine, the title goes right below the upper edge
        place = {} if figure.get_layout_engine() else {"y": 1 - 0.07 / figure.get_figheight()}
        name = shorten(str(data), figure.get_figwidth() - 0.2)
        figure.suptitle(name, fontsize=9, color="dimgray", **place)
    return figure


def text_width(texts: Sequence[str], points: float = 9) -> float:
    """Approximate width of the longest text, in inches."""
    return max(map(letters, texts), default=0) * points * LETTER / 72


def letters(text: str) -> float:
    """Width of a text in Latin letters: East Asian characters are as wide as the font is high."""
    return sum(1 / LETTER if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def shorten(text: str, inches: float, points: float = 9) -> str:
    """Truncates a text that is too wide.

    Example:
        >>> shorten("a_factor_with_a_long_name", 1.0)
        'a_factor_wi…'
    """
    most = max(int(inches * 72 / (points * LETTER)), 2)
    if letters(text) <= most:
        return text
    while letters(text) > most - 1:
        text = text[:-1]
    return f"{text}…"


def write(figure: Figure, left: float, bottom: float, text: str) -> None:
    """Writes small text; its lower left corner is given in inches from the upper left corner of the figure."""
    width, height = figure.get_size_inches()
    figure.text(left / width, 1 - bottom / height, text, fontsize=8, va="bottom", linespacing=1.25)


def place(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Adds axes at a position in inches from the upper left corner of the figure."""
    whole_width, whole_height = figure.get_size_inches()
    box = (left / whole_width, 1 - (top + height) / whole_height, width / whole_width, height / whole_height)
    return figure.add_axes(box)
