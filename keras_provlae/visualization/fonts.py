"""Fonts for names in any script: installed fonts fill in for characters that DejaVu Sans lacks."""

import contextlib
import functools
import unicodedata

from matplotlib.figure import Figure
from matplotlib.font_manager import FontEntry, findfont, fontManager
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

from keras_provlae.messages import LOGGER

FONT = "DejaVu Sans"  # comes with matplotlib


def use_fonts(figure: Figure) -> None:
    """Gives every text of a figure the fonts that its characters need.

    A character that no installed font has is drawn as a box and logged once. Control characters and undecodable bytes
    of file names are written as Python escapes.
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
    r"""Returns the text with escapes for characters that have no glyph in any font.

    Example:
        >>> print(printable("a\tb"), printable("caf\udce9"))
        a\tb caf\udce9
    """
    shapeless = {letter for letter in text if letter != "\n" and unicodedata.category(letter) in ("Cc", "Cs")}
    return text.translate({ord(letter): letter.encode("unicode_escape").decode() for letter in shapeless})


@functools.lru_cache
def families_with(characters: frozenset[str], installed: int) -> tuple[str, ...]:
    """Finds installed font families that together have these characters; prefers upright sans-serif fonts.

    Args:
        characters: Single characters.
        installed: Int. Number of installed fonts: the cache expires when one is added.

    Returns:
        A tuple of names, empty if no font has any of the characters.
    """
    families, missing = [], characters
    for entry in sorted(fontManager.ttflist, key=_preference):
        has_shapes = not entry.name.replace(" ", "").lstrip(".").startswith("LastResort")  # which draws boxes only
        if missing and has_shapes:
            left = lacking(entry.fname, missing)
            if left != missing:
                families.append(entry.name)
                missing = left
    if missing:
        LOGGER.warning(
            "No installed font has %s: drawing boxes instead. Install a font that has (Noto Sans CJK for Chinese, "
            "Japanese and Korean).",
            ", ".join(f"{letter} (U+{ord(letter):04X})" for letter in sorted(missing)),
        )
    return tuple(families)


def _preference(entry: FontEntry):
    regular = entry.weight in (400, "normal", "regular")
    return (entry.style != "normal", not regular, "Sans" not in entry.name, entry.name)


def lacking(path: str, characters: frozenset[str]) -> frozenset[str]:
    """Returns the characters that a font file has no glyph for; all of them if it cannot be read."""
    with contextlib.suppress(OSError, RuntimeError):
        font = FT2Font(path)
        return frozenset(letter for letter in characters if not font.get_char_index(ord(letter)))
    return characters
