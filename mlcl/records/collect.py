"""Records -> `metrics.csv`, `costs.csv`, `cells.csv`, `labels.csv`: the only way from computing to reporting."""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlcl.digests import SEAL, canonical_json, digests_of, first_defect, is_sealed, sealed
from mlcl.errors import MlclError, RecordError
from mlcl.records.cards import CARD_AGAIN, read_card
from mlcl.records.diagnosis import edges, lagging_average, untrained
from mlcl.records.files import atomic_file, write_json
from mlcl.records.format import FORMAT, require_format
from mlcl.records.labels import write_labels
from mlcl.records.outline import OpenStudy, Outline
from mlcl.records.paths import CellId, StudyPaths
from mlcl.records.record import HISTORY
from mlcl.records.search import write_search
from mlcl.records.status import CellStatus, State, cell_statuses

COORDINATES = ("dataset", "encoder", "loss", "variant", "seed")
METRICS_COLUMNS = (*COORDINATES, "readout", "split", "metric", "value")
COSTS_COLUMNS = (*COORDINATES, "cost", "value")
CELLS_COLUMNS = (*COORDINATES, "state", "reason", "untrained", "edges")
"""`untrained`, `edges`: see `mlcl.records.diagnosis`."""
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
    """`collected.json`, beside the CSV files: what these were collected for and from, sealed."""

    format: int
    outline: str
    """`Outline.digest` of the study at that time."""
    records: str
    """A digest of the records, and of what is wrong with the damaged ones."""
    files: dict[str, str]
    """CSV file, `confusions.json` or copy of a card -> its SHA-256."""
    torch_versions: dict[str, int]
    """Version of torch -> number of the records that count."""


def collect(study: OpenStudy, partial: bool = False) -> None:
    """Writes the CSV files of the study. Only records that count give metrics and costs: a stale one gives none.

    A cell without a record, or with a stale one, is an error, or stands in cells.csv as such if `partial`.
    """
    outline, paths = study
    cells = cell_statuses(outline, paths)
    if not partial:
        _require_all(outline, cells)
    for defect in card_defects(study, cells):
        raise RecordError(defect)
    paths.collected.unlink(missing_ok=True)
    write_search(study)
    _write_csv(paths.metrics_csv, METRICS_COLUMNS, (row for cell in cells for row in _metric_rows(cell)))
    _write_csv(paths.costs_csv, COSTS_COLUMNS, (row for cell in cells for row in _cost_rows(cell)))
    _write_csv(
        paths.cells_csv, CELLS_COLUMNS, [*(_cell_row(cell, paths) for cell in cells), *_skipped_rows(outline)]
    )
    write_labels(study, cells)
    cards = [paths.card(dataset) for dataset in outline.datasets if paths.card(dataset).exists()]
    names = [file.relative_to(paths.results).as_posix() for file in (*_files(paths), *cards)]
    files = digests_of(paths.results, names)
    collected = Collected(FORMAT, outline.digest, _digest(cells), files, _torch_versions(cells))
    write_json(paths.collected, sealed(asdict(collected)))


def _files(paths: StudyPaths) -> tuple[Path, ...]:
    """What is written whatever the study."""
    return paths.metrics_csv, paths.costs_csv, paths.cells_csv, paths.labels_csv, paths.confusions


def card_defects(study: OpenStudy, cells: Iterable[CellStatus]) -> Iterator[str]:
    """The copies of cards that are damaged, or of other data than the records of their dataset were made of."""
    made_of: dict[str, set[str]] = {}
    for cell in cells:
        if (record := cell.counted_record) is not None:
            content = (record.result.get("dataset") or {}).get("content_sha256")
            if content is not None:
                made_of.setdefault(cell.cell.id.dataset, set()).add(content)
    for dataset in study.outline.datasets:
        file = study.paths.card(dataset)
        try:
            card = read_card(file)
        except RecordError as error:
            yield str(error)
            continue
        content = card.get("content_sha256") if card is not None else None
        if content is not None and made_of.get(dataset, {content}) - {content}:
            yield f"{file}: is the card of other data than the records were made of; {CARD_AGAIN}"


def read_collected(study: OpenStudy) -> Collected | None:
    """What the CSV files were collected from; None unless all are there, as they were written, for what the study asks
    for now. Raises RecordError for another format."""
    file = study.paths.collected
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError, RecursionError):
        return None
    if not isinstance(content, dict):
        return None
    require_format(content, file, "collect the records again (mlcl aggregate)")
    if not is_sealed(content):
        return None
    collected = Collected(**{key: value for key, value in content.items() if key != SEAL})
    if collected.outline != study.outline.digest or {f.name for f in _files(study.paths)} - set(
        collected.files
    ):
        return None
    return None if first_defect(study.paths.results, collected.files) else collected


def is_collected(study: OpenStudy) -> bool:
    """Are the CSV files there, for what the study asks for and from the records as they are now?"""
    collected = read_collected(study)
    return collected is not None and collected.records == _digest(cell_statuses(*study))


def require_collected(study: OpenStudy) -> Collected:
    """Raises MlclError unless the CSV files are there and were collected for what the study asks for now."""
    if (collected := read_collected(study)) is None:
        raise MlclError(
            f"{study.paths.metrics_csv}: is not there, is not what was written, or was collected before the study "
            f"changed; collect the records (mlcl aggregate {study.outline.file}, with --partial while some are missing)"
        )
    return collected


def _digest(cells: Iterable[CellStatus]) -> str:
    """Of the records as they stand in `cells.csv` and the other files."""
    told = [[str(c.cell.id), c.damage, vars(c.record) if c.record is not None else None] for c in cells]
    return hashlib.sha256(canonical_json(told).encode()).hexdigest()


def _torch_versions(cells: Iterable[CellStatus]) -> dict[str, int]:
    records = (cell.counted_record for cell in cells)
    versions = Counter((record.run.get("versions") or {}).get("torch") for record in records if record)
    return {version: count for version, count in sorted(versions.items(), key=str) if version}


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
    for readout, splits in cell.counted_record.metrics.items():
        for split, metrics in splits.items():
            for metric, value in metrics.items():
                yield (*_coordinates(cell.cell.id), readout, split, metric, value)


def _cost_rows(cell: CellStatus) -> Iterable[tuple[Any, ...]]:
    run = cell.counted_record.run if cell.counted_record is not None else {}
    parts = {STEP + part: seconds for part, seconds in (run.get("step_seconds") or {}).items()}
    for cost, value in ({cost: run.get(cost) for cost in COSTS} | parts).items():
        if value is not None:
            yield (*_coordinates(cell.cell.id), cost, value)


def _cell_row(cell: CellStatus, paths: StudyPaths) -> tuple[Any, ...]:
    record = cell.counted_record
    reason = (record.reason or "") if record is not None else cell.damage or REASONS[cell.state]
    diagnostics = record.diagnostics if record is not None else None
    unfinished = [*untrained(diagnostics), *_lagging_average(cell, paths)]
    marks = ("; ".join(texts) for texts in (unfinished, edges(diagnostics)))
    return (*_coordinates(cell.cell.id), cell.outcome, reason, *marks)


def _lagging_average(cell: CellStatus, paths: StudyPaths) -> list[str]:
    """Only a cell whose weights are averaged has its history read."""
    record = cell.counted_record
    training = ((record.result.get("settings") or {}).get("training") or {}) if record is not None else {}
    stage = training.get("finetuning") or training
    file = paths.cell(cell.cell.id) / HISTORY
    if cell.outcome != "ok" or stage.get("ema_decay") is None or not file.exists():
        return []
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            steps = [int(row["step"]) for row in csv.DictReader(lines)]
    except (ValueError, KeyError, TypeError):
        raise RecordError(
            f"{file}: is no history of training; remove the record, and the cell is made again"
        ) from None
    return lagging_average(training, steps)


def _skipped_rows(outline: Outline) -> Iterable[tuple[Any, ...]]:
    for row in outline.skipped:
        for seed in outline.seeds:
            yield (row.dataset, row.encoder, row.loss, row.variant, seed, "skipped", row.reason, "", "")


def _coordinates(cell: CellId) -> tuple[str, str, str, str, int]:
    return cell.dataset, cell.encoder, cell.loss, cell.variant, cell.seed


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> None:
    """Python's shortest text of a float gives the same float back, so nothing is lost."""
    with atomic_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
