"""Elements of SGML-like text that is no XML, found in one pass: a tag that is never closed costs nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

LONGEST_TAG = 500  # characters between < and >


def elements(text: str, tag: str) -> Iterator[tuple[str, str]]:
    """Each `<tag attributes>content</tag>` as (attributes, content). `tag` is a regular expression of a name."""
    opening, closing = _patterns(tag)
    position = 0
    while (start := opening.search(text, position)) and (end := closing.search(text, start.end())):
        yield start[1], text[start.end() : end.start()]
        position = end.end()


def first(text: str, tag: str) -> str:
    """The content of the first element of that name; empty where there is none."""
    return next((content for _, content in elements(text, tag)), "")


def without_tags(text: str) -> str:
    """The text with a space in the place of each tag."""
    return re.sub(rf"<[^>]{{0,{LONGEST_TAG}}}>", " ", text)


@cache
def _patterns(tag: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    return re.compile(rf"<{tag}\b([^>]{{0,{LONGEST_TAG}}})>"), re.compile(f"</{tag}>")
