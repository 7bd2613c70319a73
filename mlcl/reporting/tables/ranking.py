"""Best and second of each column."""

from __future__ import annotations

from collections.abc import Sequence

from mlcl.reporting.tables.model import Cell, Number


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
