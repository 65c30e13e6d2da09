"""Self-contained HTML pages: embedded pictures and style, no scripts, no external links."""

import base64
from collections.abc import Sequence
from html import escape

from keras_provlae.visualization.picture import Picture

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; max-width: 56rem; margin: 0 auto;
  padding: 1rem; }
h1 { font-size: 1.6rem; margin: .5rem 0; } h2 { font-size: 1.25rem; margin: 2.2rem 0 .5rem; }
nav a { margin-right: 1rem; display: inline-block; } a { color: #00558a; }
figure { margin: 1rem 0; } .wide { overflow-x: auto; }
img { max-width: max(100%, 34rem); height: auto; display: block; }
p, h1, td:last-child { overflow-wrap: anywhere; } td:first-child { white-space: nowrap; }
figcaption { color: #555; font-size: .9rem; margin-top: .3rem; }
table { border-collapse: collapse; font-size: .9rem; }
th, td { text-align: left; padding: .25rem .9rem .25rem 0; border-bottom: 1px solid #ddd; vertical-align: top; }
td:last-child { min-width: 11rem; }
td.number, th.number { font-variant-numeric: tabular-nums; white-space: nowrap; }
.warnings { border-left: 4px solid #d55e00; background: #fff6ef; padding: .6rem 1rem; }
.warnings.none { border-color: #009e73; background: #f0faf6; }
.warnings ul { margin: 0; padding-left: 1.1rem; }
code { font-size: .9em; overflow-wrap: anywhere; } footer { color: #555; font-size: .85rem; margin: 3rem 0 1rem; }
@media print { nav { display: none; } figure, tr { break-inside: avoid; } }
"""


def page(title: str, lead: str, sections: Sequence[tuple[str, str]], footer: str) -> str:
    """Builds the HTML document.

    Args:
        title: Text.
        lead: Text below the title.
        sections: Pairs of a heading (text) and its content (HTML).
        footer: Text.
    """
    links = "".join(f'<a href="#{_anchor(heading)}">{escape(heading)}</a>' for heading, _ in sections)
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">",
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1><p>{escape(lead)}</p><nav>{links}</nav><main>",
        *(
            f'<section id="{_anchor(heading)}"><h2>{escape(heading)}</h2>{content}</section>'
            for heading, content in sections
        ),
        f"</main><footer>{escape(footer)}</footer></body></html>",
    ]
    return "\n".join(parts) + "\n"


def picture(figure: Picture, caption: str) -> str:
    """Renders a figure with its caption as HTML."""
    png, size = figure._repr_png_()
    data = base64.b64encode(png).decode()
    width, height = size["width"], size["height"]
    image = f'<img src="data:image/png;base64,{data}" width="{width}" height="{height}" alt="{escape(caption)}">'
    return f'<figure><div class="wide">{image}</div><figcaption>{escape(caption)}</figcaption></figure>'


def warnings(sentences: Sequence[str]) -> str:
    """Renders the warnings, or that there are none, as HTML."""
    if not sentences:
        return '<div class="warnings none">No warnings.</div>'
    return f'<div class="warnings"><ul>{"".join(f"<li>{escape(one)}</li>" for one in sentences)}</ul></div>'


def _anchor(heading):
    return heading.lower().replace(" ", "-")
