"""The overview as a terminal, Markdown and HTML show it."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Collection, Iterator

from markupsafe import Markup

from mlcl.records.files import write_text
from mlcl.reporting.contrasts import Contrasts
from mlcl.reporting.overview import TABLES, Overview, conclude
from mlcl.reporting.results import Results
from mlcl.reporting.visible import as_markdown, visible

WIDTH = 100
MOST_LINES = 8
_NAMED = re.compile("(" + "|".join(map(re.escape, TABLES)) + ")")


def in_brief(overview: Overview) -> list[str]:
    """Lines for a terminal: the sentences with the most weight that MOST_LINES have room for, the first one always."""
    lines: list[str] = []
    for sentence in overview.by_weight:
        wrapped = textwrap.wrap(visible(sentence), WIDTH, break_long_words=False, break_on_hyphens=False)
        if lines and len(lines) + len(wrapped) > MOST_LINES:
            break
        lines += wrapped
    return lines


def as_html(paragraph: str, tables: Collection[str]) -> Markup:
    """With links to the tables that it names and that the page has."""
    return Markup("").join(
        Markup('<a href="#table-{}">{}</a>').format(TABLES[piece], piece) if is_link else visible(piece)
        for piece, is_link in _pieces(paragraph, tables)
    )


def write_overview(results: Results, contrasts: Contrasts, tables: Collection[str]) -> None:
    """`paper_tables/<study>/overview.md`; `tables`: those that lie beside it."""
    paragraphs = [
        "".join(
            f"[{piece}]({TABLES[piece]}.md)" if is_link else piece
            for piece, is_link in _pieces(as_markdown(paragraph), tables)
        )
        for paragraph in conclude(results, contrasts).paragraphs
    ]
    heading = f"# {as_markdown(results.outline.title.rstrip('.'))}: overview"
    write_text(results.paths.tables / "overview.md", "\n\n".join([heading, *paragraphs]) + "\n")


def _pieces(paragraph: str, tables: Collection[str]) -> Iterator[tuple[str, bool]]:
    """The text in pieces, and whether each is the name of a table that there is."""
    for piece in _NAMED.split(paragraph):
        if piece:
            yield piece, piece in TABLES and TABLES[piece] in tables
