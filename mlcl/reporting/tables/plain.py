"""Tables as CSV: one line a cell, full precision, names as in metrics.csv, for whoever computes on."""

from __future__ import annotations

import csv
import io

from mlcl.reporting.tables.model import Number, Table


def render(table: Table) -> str:
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
