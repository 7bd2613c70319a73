"""Texts of others (titles, names of labels, reasons) as they may be shown: what cannot be seen becomes an escape."""

from __future__ import annotations

import re
import unicodedata

DIRECTION = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f")
"""Marks that turn the direction of writing, and so can make a text look like another."""


def visible(text: str) -> str:
    r"""Control characters (`\x1b`), half characters and direction marks as escapes; line breaks and tabs as spaces."""
    return "".join(map(_shown, text))


def as_markdown(text: str) -> str:
    """Plain text as Markdown that shows it: no markup, no mathematics, no border of a cell, on one line."""
    return re.sub(r"([\\`*\[\]<|$]|(?<!\w)_|_(?!\w))", r"\\\1", " ".join(visible(text).split()))


def _shown(character: str) -> str:
    if character in "\n\r\t":
        return " "
    if unicodedata.category(character) in ("Cc", "Cs") or character in DIRECTION:
        return character.encode("unicode_escape", "surrogatepass").decode("ascii")
    return character
