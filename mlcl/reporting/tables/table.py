"""A table as an object: what the renderers (LaTeX, Markdown, CSV, HTML) are given, and the only source of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Literal

from mlcl.reporting.results import RowState

Mark = Literal["best", "second"]
NO_VALUE = "–"
LONGEST_NOTE = 200
"""Characters of a note; a longer one is cut."""


@dataclass(frozen=True)
class Number:
    """A mean over seeds, in the units in which it is computed; `scale` and `decimals` are for printing."""

    value: float
    spread: float | None
    n: int
    expected: int
    scale: float = 100.0
    decimals: int = 1
    mark: Mark | None = None
    signed: bool = False
    interval: tuple[float, float] | None = None
    """Shown in place of the spread."""
    notes: tuple[int, ...] = ()
    """Places in the table's list of notes."""

    @property
    def text(self) -> str:
        return f"{self.value * self.scale:{'+' if self.signed else ''}.{self.decimals}f}"

    @property
    def spread_text(self) -> str:
        """What is shown behind the value, if anything."""
        if self.interval is not None:
            low, high = (f"{bound * self.scale:+.{self.decimals}f}" for bound in self.interval)
            return f"[{low}, {high}]"
        return "" if self.spread is None else f"± {self.spread * self.scale:.{self.decimals}f}"

    def marked(self, mark: Mark) -> Number:
        return replace(self, mark=mark)


@dataclass(frozen=True)
class Text:
    """Words, or nothing, in place of a number."""

    text: str = NO_VALUE
    notes: tuple[int, ...] = ()


Cell = Number | Text


@dataclass(frozen=True)
class Column:
    """A column below its headers, from the widest group to its own name; `key`: the same as in metrics.csv."""

    headers: tuple[str, ...]
    key: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """A row behind its own headers, one for each of the table's stubs; `key`: the same as in metrics.csv."""

    headers: tuple[str, ...]
    key: tuple[str, ...]
    cells: tuple[Cell, ...]


@dataclass(frozen=True, repr=False)
class Table:
    """Blocks of rows, with a rule between them. `notes` are referred to by cells, lettered in this order."""

    name: str
    label: str
    caption: str
    stubs: tuple[str, ...]
    """The headers of the row headers."""
    levels: tuple[str, ...]
    """What the levels of the column headers are."""
    columns: tuple[Column, ...]
    blocks: tuple[tuple[Row, ...], ...]
    notes: tuple[str, ...] = ()
    beside: str = ""
    """A sentence about other tables of the study; an article that takes in this one does not have them."""

    @property
    def caption_in_study(self) -> str:
        """The caption where the study's other tables are at hand."""
        return f"{self.caption} {self.beside}".rstrip()

    def __repr__(self) -> str:
        """The table as plain text, with its caption."""
        lines = self._lines()
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text = ["  ".join(t.ljust(w) for t, w in zip(line, widths, strict=True)).rstrip() for line in lines]
        return "\n".join([*text, self.caption_in_study])

    def _repr_html_(self) -> str:
        """For a notebook; reports have a form of their own (`html`)."""
        head, *body = ("".join(f"<td>{escape(text)}</td>" for text in line) for line in self._lines())
        rows = "".join(f"<tr>{line}</tr>" for line in body)
        caption = escape(self.caption_in_study)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table><p>{caption}</p>"

    def _lines(self) -> list[tuple[str, ...]]:
        """The line of headers, then the rows."""
        head = (*self.stubs, *(" ".join(filter(None, column.headers)) for column in self.columns))
        return [head, *((*row.headers, *map(_in_text, row.cells)) for row in self.rows)]

    @property
    def is_empty(self) -> bool:
        return not self.columns or not any(self.blocks)

    @property
    def rows(self) -> list[Row]:
        return [row for block in self.blocks for row in block]

    def groups(self, level: int, columns: range | None = None) -> list[tuple[str, int]]:
        """Neighbouring columns under one header of a level: its text and how many they are."""
        headers: list[tuple[tuple[str, ...], int]] = []
        for i in columns or range(len(self.columns)):
            path = self.columns[i].headers[: level + 1]
            if headers and headers[-1][0] == path:
                headers[-1] = (path, headers[-1][1] + 1)
            else:
                headers.append((path, 1))
        return [(path[-1], n) for path, n in headers]

    def panels(self, widest: int) -> Iterator[range]:
        """Ranges of at most `widest` columns that leave the groups of the first level whole where they can."""
        start = end = 0
        for _, size in self.groups(0):
            if end > start and end + size - start > widest:
                yield range(start, end)
                start = end
            end += size
            while end - start > widest:
                yield range(start, start + widest)
                start += widest
        if end > start:
            yield range(start, end)

    def pages(self, longest: int) -> Iterator[Table]:
        """The table cut into some of at most `longest` rows each, between blocks where that can be."""
        blocks: list[tuple[Row, ...]] = []
        for block in self.blocks:
            pieces = [block[i : i + longest] for i in range(0, len(block), longest)]
            for piece in pieces:
                if blocks and sum(map(len, blocks)) + len(piece) > longest:
                    yield replace(self, blocks=tuple(blocks))
                    blocks = []
                blocks.append(piece)
        if blocks:
            yield replace(self, blocks=tuple(blocks))


def _in_text(cell: Cell) -> str:
    return f"{cell.text} {cell.spread_text}".rstrip() if isinstance(cell, Number) else cell.text


def letter(note: int) -> str:
    """a, b, ..., z, aa, ab, ...: the mark of the note in this place."""
    name = ""
    note += 1
    while note:
        note, rest = divmod(note - 1, 26)
        name = chr(ord("a") + rest) + name
    return name


class Notes:
    """Gives each text its place in the list of notes."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def refer(self, text: str) -> int:
        if text not in self.texts:
            self.texts.append(text)
        return self.texts.index(text)

    def on(self, row: RowState) -> tuple[int, ...]:
        """What a reader has to know of a row that is not complete."""
        return tuple(self.refer(text) for text in explain(row))


def explain(row: RowState) -> list[str]:
    """In words: why there are fewer seeds than the study asks for, and whether they were trained to the end."""
    if row.skipped:
        return [f"skipped: {row.problems[0]}"]
    sentences = []
    if row.ok < row.expected:
        missing = sum(problem.endswith(": missing") for problem in row.problems)
        if missing == row.expected:
            sentences.append("not run yet")
        else:
            sentences.append(f"{row.ok} of {row.expected} seeds; {_shorten('; '.join(row.problems))}")
    if row.untrained:
        sentences.append(f"not trained to the end: {'; '.join(row.untrained)}")
    return sentences


def _shorten(text: str) -> str:
    return text if len(text) <= LONGEST_NOTE else text[: LONGEST_NOTE - 1].rstrip() + "…"


def with_marks(column: Sequence[Cell], competes: Sequence[bool], higher_is_better: bool) -> list[Cell]:
    """The column with its best and second-best competitors marked; equal values share a mark.

    Where fewer than two compete there is nothing to mark; where two share the first place there is no second.
    """
    values = [
        cell.value if higher_is_better else -cell.value
        for cell, takes_part in zip(column, competes, strict=True)
        if takes_part and isinstance(cell, Number)
    ]
    if len(values) < 2:
        return list(column)
    first, *others = sorted(values, reverse=True)
    marked: list[Cell] = []
    for cell, takes_part in zip(column, competes, strict=True):
        if takes_part and isinstance(cell, Number):
            value = cell.value if higher_is_better else -cell.value
            if value == first:
                cell = cell.marked("best")
            elif value == others[0]:
                cell = cell.marked("second")
        marked.append(cell)
    return marked
