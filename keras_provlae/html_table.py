"""Tables in HTML, for reports and for notebooks, whose own style turns cells to the right."""

from collections.abc import Sequence
from html import escape


def table(header: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """A table of texts as HTML.

    Args:
        header: Texts; the row is left out where all are empty.
        rows: Rows of as many texts. Names are taken literally.
        numbers: Columns that are set to the right.

    Returns:
        HTML.

    Example:
        >>> "a &lt; b</td>" in table(["name"], [["a < b"]])
        True
    """
    kinds = [
        ' class="number" style="text-align: right"' if column in numbers else ' style="text-align: left"'
        for column in range(len(header))
    ]
    head = "".join(f"<th{kind}>{escape(name)}</th>" for kind, name in zip(kinds, header, strict=True))
    head = f"<thead><tr>{head}</tr></thead>" if any(header) else ""
    lines = ["".join(f"<td{kind}>{escape(cell)}</td>" for kind, cell in zip(kinds, row, strict=True)) for row in rows]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="wide"><table>{head}<tbody>{body}</tbody></table></div>'
