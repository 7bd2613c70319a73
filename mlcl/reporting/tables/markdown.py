"""Tables in Markdown (GitHub's)."""

from __future__ import annotations

from mlcl.reporting.tables.model import Cell, Table, Text, letter


def render(table: Table) -> str:
    lines = [table.caption, ""]
    if table.is_empty:
        return "\n".join([*lines, "There are no results yet.", ""])
    headers = [*table.stubs, *("<br>".join(part for part in c.headers if part) for c in table.columns)]
    lines += [_line(headers), _line(["---"] * len(table.stubs) + ["---:"] * len(table.columns))]
    lines += [_line([*row.headers, *map(_cell, row.cells)]) for row in table.rows]
    if table.notes:
        lines += ["", *(f"<sup>{letter(i)}</sup> {_escape(note)}.<br>" for i, note in enumerate(table.notes))]
    return "\n".join([*lines, ""])


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cell: Cell) -> str:
    marks = f"<sup>{','.join(letter(note) for note in cell.notes)}</sup>" if cell.notes else ""
    if isinstance(cell, Text):
        return _escape(cell.text) + marks
    text = {"best": f"**{cell.text}**", "second": f"<u>{cell.text}</u>"}.get(cell.mark or "", cell.text)
    return f"{text} {cell.spread_text}".rstrip() + marks


def _escape(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|").replace("<", "&lt;")
