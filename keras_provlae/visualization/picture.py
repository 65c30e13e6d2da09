"""The figure that every picture is: drawn alike whatever matplotlib is set to, and shown where the user looks."""

import contextlib
import io
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import matplotlib
from matplotlib import style
from matplotlib.figure import Figure

from keras_provlae.visualization.fonts import FONT, use_fonts

DPI = 130  # of a picture in a page or a notebook: sharp at its width, small enough to send
SHOWN_DPI = 100  # of its size there
OWN = {"font.family": [FONT], "text.parse_math": False}  # names are text: a `$` is a `$`
KEPT = ("pdf.", "pgf.", "ps.", "svg.")  # of the user: how vector files are written, not how they look


@contextlib.contextmanager
def own_style() -> Iterator[None]:
    """matplotlib with the package's settings, whatever those of the user are; these are back afterwards.

    Every function that makes a picture is decorated with it: artists ask for settings when they are made.
    """
    kept = {name: matplotlib.rcParams[name] for name in matplotlib.rcParams if name.startswith(KEPT)}
    with style.context(["default", OWN, kept]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .*missing from", UserWarning)  # `use_fonts` says it
        yield


class Picture(Figure):
    """A matplotlib figure of no window and no global state, which displays itself in notebooks.

    Take it inside `own_style`.
    """

    def draw(self, renderer: Any) -> None:
        """As matplotlib does, with the package's settings and a font for every character."""
        with own_style():
            use_fonts(self)
            super().draw(renderer)

    def savefig(self, *args: Any, **kwargs: Any) -> None:
        """As matplotlib does, with the package's settings."""
        with own_style():
            super().savefig(*args, **kwargs)

    def show(self, warn: bool = True) -> None:
        """Displays the figure in a notebook; elsewhere there is no window, and a warning says what to do.

        Args:
            warn: Bool. Whether to warn.
        """
        shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
        if hasattr(shell, "kernel"):
            from IPython.display import display

            display(self)
        elif warn:
            warnings.warn(
                "This figure has no window: it shows itself in notebooks. Elsewhere write a file: "
                '`write_png(figure, "picture.png")`, or `figure.savefig("picture.pdf")`.',
                stacklevel=2,
            )

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        """What notebooks show: the file, and the size to show it at, in pixels."""
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=DPI)
        width, height = (round(SHOWN_DPI * inches) for inches in self.get_size_inches())
        return buffer.getvalue(), {"width": width, "height": height}
