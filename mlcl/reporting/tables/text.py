"""Tables as text: Markdown (GitHub's) for readers, CSV for programs."""

from __future__ import annotations

import csv
import io

from mlcl.reporting.tables.table import Cell, Number, Table, Text, letter
from mlcl.reporting.visible import as_markdown


def markdown(table: Table) -> str:
    lines = [as_markdown(table.caption_in_study), ""]
    if table.is_empty:
        return "\n".join([*lines, "There are no results yet.", ""])
    headers = [
        *map(as_markdown, table.stubs),
        *("<br>".join(as_markdown(part) for part in c.headers if part) for c in table.columns),
    ]
    lines += [_line(headers), _line(["---"] * len(table.stubs) + ["---:"] * len(table.columns))]
    lines += [_line([*map(as_markdown, row.headers), *map(_cell, row.cells)]) for row in table.rows]
    if table.notes:
        lines += [
            "",
            *(f"<sup>{letter(i)}</sup> {as_markdown(note)}.<br>" for i, note in enumerate(table.notes)),
        ]
    return "\n".join([*lines, ""])


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cell: Cell) -> str:
    marks = f"<sup>{','.join(letter(note) for note in cell.notes)}</sup>" if cell.notes else ""
    if isinstance(cell, Text):
        return as_markdown(cell.text) + marks
    text = {"best": f"**{cell.text}**", "second": f"<u>{cell.text}</u>"}.get(cell.mark or "", cell.text)
    return f"{text} {cell.spread_text}".rstrip() + marks


def comma_separated(table: Table) -> str:
    """One line a cell, at full precision, with the names of metrics.csv."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    stubs = [stub.lower() for stub in table.stubs]
    writer.writerow(
        [*stubs, *table.levels, "mean", "sd", "low", "high", "n", "expected", "mark", "text", "notes"]
    )
    for row in table.rows:
        for column, cell in zip(table.columns, row.cells, strict=True):
            notes = "; ".join(table.notes[note] for note in cell.notes)
            if isinstance(cell, Number):
                spread = "" if cell.spread is None else cell.spread
                bounds = cell.interval or ("", "")
                numbers = [cell.value, spread, *bounds, cell.n, cell.expected, cell.mark or "", cell.text]
            else:
                numbers = ["", "", "", "", "", "", "", cell.text]
            writer.writerow([*row.key, *column.key, *numbers, notes])
    return buffer.getvalue()
