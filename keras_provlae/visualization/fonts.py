"""Fonts for names in any script: a character that the usual font lacks is drawn by an installed font that has it."""

import contextlib
import functools
import logging
import unicodedata

from matplotlib.figure import Figure
from matplotlib.font_manager import FontEntry, findfont, fontManager
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

FONT = "DejaVu Sans"  # matplotlib brings it
_log = logging.getLogger(__name__)


def use_fonts(figure: Figure) -> None:
    """Gives every text of a figure the fonts that its characters need.

    A character that no installed font has stays a box, and is logged once. Control characters, and bytes of file names
    that are no text, are written as Python escapes them.
    """
    texts = figure.findobj(Text)
    for text in texts:
        text.set_text(printable(text.get_text()))
    letters = frozenset(letter for text in texts for letter in text.get_text() if not letter.isascii())
    missing = lacking(findfont(FONT), letters) if letters else letters
    if missing:
        families = families_with(missing, len(fontManager.ttflist))
        for text in texts:
            if not missing.isdisjoint(text.get_text()):
                text.set_fontfamily([FONT, *families])


def printable(text: str) -> str:
    r"""The text with escapes for characters that no font has a shape for.

    Example:
        >>> print(printable("a\tb"), printable("caf\udce9"))
        a\tb caf\udce9
    """
    shapeless = {letter for letter in text if letter != "\n" and unicodedata.category(letter) in ("Cc", "Cs")}
    return text.translate({ord(letter): letter.encode("unicode_escape").decode() for letter in shapeless})


@functools.lru_cache
def families_with(characters: frozenset[str], installed: int) -> tuple[str, ...]:
    """The installed families that have these characters together; upright sans-serif fonts are preferred.

    Args:
        characters: Single characters.
        installed: Int. How many fonts there are: where one has been added since, they are searched anew.

    Returns:
        A tuple of names, empty where no font has any of them.
    """
    families, missing = [], characters
    for entry in sorted(fontManager.ttflist, key=_preference):
        if missing and not entry.name.replace(" ", "").lstrip(".").startswith("LastResort"):  # which has boxes for all
            left = lacking(entry.fname, missing)
            if left != missing:
                families.append(entry.name)
                missing = left
    if missing:
        _log.warning(
            "No installed font has %s: boxes are drawn instead. Install one that has (for Chinese, Japanese and "
            "Korean Noto Sans CJK).",
            ", ".join(f"{letter} (U+{ord(letter):04X})" for letter in sorted(missing)),
        )
    return tuple(families)


def _preference(entry: FontEntry):
    regular = entry.weight in (400, "normal", "regular")
    return (entry.style != "normal", not regular, "Sans" not in entry.name, entry.name)


def lacking(path: str, characters: frozenset[str]) -> frozenset[str]:
    """Those of some characters that a font file has no glyph for; all where it cannot be read."""
    with contextlib.suppress(OSError, RuntimeError):
        font = FT2Font(path)
        return frozenset(letter for letter in characters if not font.get_char_index(ord(letter)))
    return characters
