"""HTML tables for reports and notebooks."""

from collections.abc import Sequence
from html import escape


def table(header: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """Formats rows of strings as an HTML table.

    Args:
        header: Column names. The header row is left out if all are empty.
        rows: Rows with one string per column; HTML in them is escaped.
        numbers: Indices of the right-aligned columns.

    Returns:
        HTML string.

    Example:
        >>> html = table(["name", "count"], [["a < b", "3"]], numbers=[1])
        >>> "a &lt; b</td>" in html, 'text-align: right">3</td>' in html
        (True, True)
    """
    kinds = [  # inline styles: notebooks right-align cells by default
        ' class="number" style="text-align: right"' if column in numbers else ' style="text-align: left"'
        for column in range(len(header))
    ]
    head = "".join(f"<th{kind}>{escape(name)}</th>" for kind, name in zip(kinds, header, strict=True))
    head = f"<thead><tr>{head}</tr></thead>" if any(header) else ""
    lines = ["".join(f"<td{kind}>{escape(cell)}</td>" for kind, cell in zip(kinds, row, strict=True)) for row in rows]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="wide"><table>{head}<tbody>{body}</tbody></table></div>'
