"""Griffe extension: the house's docstring sections `Example:` and `Source:`, for the API pages."""

import re

import griffe


class HouseSections(griffe.Extension):
    """Reads `Example:` as a section of doctests and `Source:` as a paragraph."""

    def on_instance(self, *, obj, **_):
        if obj.docstring:
            text = re.sub(r"^( *)Example:$", r"\1Examples:", obj.docstring.value, flags=re.MULTILINE)
            obj.docstring.value = re.sub(r"^( *)Source: ", r"\1**Source**: ", text, flags=re.MULTILINE)
