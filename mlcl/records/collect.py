"""Records -> `metrics.csv`, `costs.csv`, `cells.csv`: the only door between computing and reporting."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlcl.errors import MlclError
from mlcl.records.files import atomic_file
from mlcl.records.outline import Outline, OutlineCell, read_outline
from mlcl.records.paths import CellId, StudyPaths
from mlcl.records.record import Record, read_record_if_present

COORDINATES = ("dataset", "encoder", "loss", "variant", "seed")
METRICS_COLUMNS = (*COORDINATES, "split", "metric", "value")
COSTS_COLUMNS = (*COORDINATES, "cost", "value")
CELLS_COLUMNS = (*COORDINATES, "state", "stale", "reason")
COSTS = (
    "wall_seconds",
    "cpu_seconds",
    "examples_per_second",
    "peak_memory_mb",
    "peak_device_memory_mb",
    "flops_per_second",
    "device_flops_per_second",
)
STEP = "step_seconds_"
"""Before the name of a part of a training step, and its mean time: `step_seconds` of a record, by part."""


@dataclass(frozen=True)
class FoundCell:
    """A cell that the study asks for, and its record if there is one."""

    cell: OutlineCell
    record: Record | None

    @property
    def stale(self) -> bool:
        """Made of something else than what the study asks for now."""
        wanted = self.cell.fingerprint
        return self.record is not None and wanted is not None and self.record.fingerprint != wanted


def collect(study: str, partial: bool = False) -> None:
    """Writes the three files of the study. Cells without a record are an error, or `missing` if `partial`."""
    outline, paths = read_outline(study), StudyPaths(study)
    found = find_records(outline, paths)
    if not partial:
        _require_all(outline, found)
    _write_csv(paths.metrics_csv, METRICS_COLUMNS, (row for cell in found for row in _metric_rows(cell)))
    _write_csv(paths.costs_csv, COSTS_COLUMNS, (row for cell in found for row in _cost_rows(cell)))
    _write_csv(paths.cells_csv, CELLS_COLUMNS, [*map(_cell_row, found), *_skipped_rows(outline)])


def find_records(outline: Outline, paths: StudyPaths) -> list[FoundCell]:
    """All cells in the order of the study. Raises RecordError for a file that is no record."""
    return [FoundCell(cell, read_record_if_present(paths.record(cell.id))) for cell in outline.cells]


def _require_all(outline: Outline, found: list[FoundCell]) -> None:
    if missing := [str(cell.cell.id) for cell in found if cell.record is None]:
        raise MlclError(
            f"{outline.file}: {len(missing)} of {len(found)} cells have no record (the first: {missing[0]}); "
            f"finish the run, or ask for partial tables"
        )


def _metric_rows(found: FoundCell) -> Iterable[tuple[Any, ...]]:
    if found.record is None:
        return
    for split, metrics in found.record.metrics.items():
        for metric, value in metrics.items():
            yield (*_coordinates(found.cell.id), split, metric, value)


def _cost_rows(found: FoundCell) -> Iterable[tuple[Any, ...]]:
    run = found.record.run if found.record is not None else {}
    parts = {STEP + part: seconds for part, seconds in (run.get("step_seconds") or {}).items()}
    for cost, value in ({cost: run.get(cost) for cost in COSTS} | parts).items():
        if value is not None:
            yield (*_coordinates(found.cell.id), cost, value)


def _cell_row(found: FoundCell) -> tuple[Any, ...]:
    record = found.record
    if record is None:
        return (*_coordinates(found.cell.id), "missing", False, "no record")
    return (*_coordinates(found.cell.id), record.status, found.stale, record.reason or "")


def _skipped_rows(outline: Outline) -> Iterable[tuple[Any, ...]]:
    for row in outline.skipped:
        for seed in outline.seeds:
            yield (row.dataset, row.encoder, row.loss, row.variant, seed, "skipped", False, row.reason)


def _coordinates(cell: CellId) -> tuple[str, str, str, str, int]:
    return cell.dataset, cell.encoder, cell.loss, cell.variant, cell.seed


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> None:
    """Python's shortest text of a float gives the same float back, so nothing is lost."""
    with atomic_file(path) as aside, aside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
