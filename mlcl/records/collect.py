"""Records -> `metrics.csv`, `costs.csv`, `cells.csv`: the only way from computing to reporting."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlcl.errors import MlclError
from mlcl.records.files import atomic_file, write_json
from mlcl.records.format import FORMAT, require_format
from mlcl.records.outline import OpenStudy, Outline
from mlcl.records.paths import CellId
from mlcl.records.status import CellStatus, State, cell_statuses

COORDINATES = ("dataset", "encoder", "loss", "variant", "seed")
METRICS_COLUMNS = (*COORDINATES, "split", "metric", "value")
COSTS_COLUMNS = (*COORDINATES, "cost", "value")
CELLS_COLUMNS = (*COORDINATES, "state", "reason")
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
"""Prefix of the costs that are mean times of the parts of a training step: `step_seconds` of a record, by part."""
REASONS: dict[State, str] = {
    "missing": "no record",
    "stale": "made with other settings, data or code than the study asks for now",
}


@dataclass(frozen=True)
class Collected:
    """`collected.json`, beside the CSV files: what these were collected for."""

    format: int
    outline: str
    """`Outline.digest` of the study at that time."""


def collect(study: OpenStudy, partial: bool = False) -> None:
    """Writes the CSV files of the study. Only records that count give metrics and costs: a stale one gives none.

    A cell without a record, or with a stale one, is an error, or stands in cells.csv as such if `partial`.
    """
    outline, paths = study
    cells = cell_statuses(outline, paths)
    if not partial:
        _require_all(outline, cells)
    paths.collected.unlink(missing_ok=True)
    _write_csv(paths.metrics_csv, METRICS_COLUMNS, (row for cell in cells for row in _metric_rows(cell)))
    _write_csv(paths.costs_csv, COSTS_COLUMNS, (row for cell in cells for row in _cost_rows(cell)))
    _write_csv(paths.cells_csv, CELLS_COLUMNS, [*map(_cell_row, cells), *_skipped_rows(outline)])
    write_json(paths.collected, asdict(Collected(FORMAT, outline.digest)))


def is_collected(study: OpenStudy) -> bool:
    """Are the CSV files there, collected for what the study asks for now? Raises RecordError for another format."""
    file = study.paths.collected
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return False
    require_format(content, file, "collect the records again (mlcl aggregate)")
    return bool(content.get("outline") == study.outline.digest)


def require_collected(study: OpenStudy) -> None:
    """Raises MlclError unless the CSV files are there and were collected for what the study asks for now."""
    if not is_collected(study):
        raise MlclError(
            f"{study.paths.metrics_csv}: is not there, or was collected before the study changed; collect the records "
            f"(mlcl aggregate {study.outline.file}, with --partial while some are missing)"
        )


def _require_all(outline: Outline, cells: list[CellStatus]) -> None:
    lacking = [
        f"{cell.cell.id}: {cell.damage or cell.state}" for cell in cells if cell.counted_record is None
    ]
    if lacking:
        raise MlclError(
            f"{outline.file}: {len(lacking)} of {len(cells)} cells have no current record (the first: {lacking[0]}); "
            f"finish the run, or ask for partial results (--partial)"
        )


def _metric_rows(cell: CellStatus) -> Iterable[tuple[Any, ...]]:
    if cell.counted_record is None:
        return
    for split, metrics in cell.counted_record.metrics.items():
        for metric, value in metrics.items():
            yield (*_coordinates(cell.cell.id), split, metric, value)


def _cost_rows(cell: CellStatus) -> Iterable[tuple[Any, ...]]:
    run = cell.counted_record.run if cell.counted_record is not None else {}
    parts = {STEP + part: seconds for part, seconds in (run.get("step_seconds") or {}).items()}
    for cost, value in ({cost: run.get(cost) for cost in COSTS} | parts).items():
        if value is not None:
            yield (*_coordinates(cell.cell.id), cost, value)


def _cell_row(cell: CellStatus) -> tuple[Any, ...]:
    record = cell.counted_record
    reason = (record.reason or "") if record is not None else cell.damage or REASONS[cell.state]
    return (*_coordinates(cell.cell.id), cell.outcome, reason)


def _skipped_rows(outline: Outline) -> Iterable[tuple[Any, ...]]:
    for row in outline.skipped:
        for seed in outline.seeds:
            yield (row.dataset, row.encoder, row.loss, row.variant, seed, "skipped", row.reason)


def _coordinates(cell: CellId) -> tuple[str, str, str, str, int]:
    return cell.dataset, cell.encoder, cell.loss, cell.variant, cell.seed


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> None:
    """Python's shortest text of a float gives the same float back, so nothing is lost."""
    with atomic_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
