"""The figure class of all pictures: independent of matplotlib's settings, displays itself in notebooks."""

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

DPI = 130  # of PNGs in a page or a notebook
SHOWN_DPI = 100  # pixels per inch at which they are displayed
OWN = {"font.family": [FONT], "text.parse_math": False}  # a `$` in a name is not math
KEPT = ("pdf.", "pgf.", "ps.", "svg.")  # the user's settings of how vector files are written


@contextlib.contextmanager
def own_style() -> Iterator[None]:
    """Runs code with the package's matplotlib settings, then restores those of the user.

    Decorates every function that makes a picture, because artists read the settings when they are created.
    """
    kept: dict[str, Any] = {name: matplotlib.rcParams[name] for name in matplotlib.rcParams if name.startswith(KEPT)}
    with style.context(["default", OWN, kept]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .*missing from", UserWarning)  # `use_fonts` logs it
        yield


class Picture(Figure):
    """A matplotlib figure without a window or global state, which displays itself in notebooks.

    Create it inside `own_style`.
    """

    def draw(self, renderer: Any) -> None:
        """Draws with the package's settings and a font for every character."""
        with own_style():
            use_fonts(self)
            super().draw(renderer)

    def savefig(self, *args: Any, **kwargs: Any) -> None:
        """Saves with the package's settings."""
        with own_style():
            super().savefig(*args, **kwargs)

    def show(self, warn: bool = True) -> None:
        """Displays the figure in a notebook; elsewhere warns that there is no window.

        Args:
            warn: Bool. Whether to warn.
        """
        shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
        if hasattr(shell, "kernel"):
            from IPython.display import display

            display(self)
        elif warn:
            warnings.warn(
                "This figure has no window and displays itself in notebooks only. Elsewhere, write a file: "
                '`write_png(figure, "picture.png")`, or `figure.savefig("picture.pdf")`.',
                stacklevel=2,
            )

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        """Returns the PNG for notebooks, and its display size in pixels."""
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=DPI)
        width, height = (round(SHOWN_DPI * inches) for inches in self.get_size_inches())
        return buffer.getvalue(), {"width": width, "height": height}
