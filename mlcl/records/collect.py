"""Records -> `metrics.csv` and the other collected files: the only way from computing to reporting."""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from math import isfinite, nan
from pathlib import Path
from typing import Any, NamedTuple

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
CURVES_COLUMNS = (*COORDINATES, "first_epoch", "losses", "val_losses", "val_micro_f1")
"""`losses`: the mean training loss of each epoch from `first_epoch` on, separated by spaces; of the variant `base`
only, which is the one that is drawn. The last two are empty where validation was not looked at."""
CURVE_DIGITS = 5
"""Significant digits of a value in `curves.csv`."""
COSTS = (
    "wall_seconds",
    "cpu_seconds",
    "examples_per_second",
    "peak_memory_mb",
    "peak_device_memory_mb",
    "flops_per_second",
    "device_flops_per_second",
)
RUN_FACTS = ("commit", "device", "host", "python")
"""What is told of the runs besides the versions of packages."""
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
    provenance: dict[str, dict[str, int]]
    """`commit`, `device`, `host`, `python`, or a package's name -> what the records that count say of it -> how many of
    them do."""
    kept: bool = False
    """Do the files stand alone, without the records that they were collected from (`mlcl keep`)?"""


def collect(study: OpenStudy, partial: bool = False) -> None:
    """Writes the CSV files of the study. Only records that count give metrics and costs: a stale one gives none.

    A cell without a record, or with a stale one, is an error, or stands in cells.csv as such if `partial`.
    """
    outline, paths = study
    if is_kept(study):
        raise MlclError(
            f"{paths.results}: holds kept results, without the records that they were collected from"
        )
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
    _write_csv(paths.curves_csv, CURVES_COLUMNS, (row for cell in cells for row in _curve_rows(cell, paths)))
    write_labels(study, cells)
    write_collected(study, _digest(cells), _provenance(cells))


def write_collected(
    study: OpenStudy, records: str, provenance: dict[str, dict[str, int]], kept: bool = False
) -> None:
    """Writes `collected.json` for the files that lie there now."""
    outline, paths = study
    names = [file.relative_to(paths.results).as_posix() for file in collected_files(study, alone=kept)]
    collected = Collected(FORMAT, outline.digest, records, digests_of(paths.results, names), provenance, kept)
    write_json(paths.collected, sealed(asdict(collected)))


def collected_files(study: OpenStudy, alone: bool = False) -> list[Path]:
    """The collected files that are there and the cards; `alone`: with all else that reporting needs without records."""
    outline, paths = study
    files = [*_files(paths), paths.search_csv, paths.chosen, *map(paths.card, outline.datasets)]
    if alone:
        files += [paths.outline, paths.jackknife, paths.pair_weights]
    return [file for file in files if file.exists()]


def _files(paths: StudyPaths) -> tuple[Path, ...]:
    """What is written whatever the study."""
    return (
        paths.metrics_csv, paths.costs_csv, paths.cells_csv, paths.curves_csv, paths.labels_csv, paths.confusions,
    )  # fmt: skip


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
    try:
        collected = Collected(**{key: value for key, value in content.items() if key != SEAL})
    except TypeError:  # of a version with other fields
        return None
    lacking = {file.name for file in _files(study.paths)} - set(collected.files)
    # Kept results are those of the outline beside them, as it was written, whatever an outline has gained since.
    if lacking or (collected.outline != study.outline.digest and not collected.kept):
        return None
    return None if first_defect(study.paths.results, collected.files) else collected


def is_collected(study: OpenStudy) -> bool:
    """Are the CSV files there, for what the study asks for and from the records as they are now?"""
    collected = read_collected(study)
    if collected is None or collected.kept:
        return collected is not None
    return collected.records == _digest(cell_statuses(*study))


def is_kept(study: OpenStudy) -> bool:
    """Are these collected files that stand alone, without records (`mlcl keep`)?

    True also where one of them was changed since: without records it cannot be collected again.
    """
    try:
        return json.loads(study.paths.collected.read_text(encoding="utf-8"))["kept"] is True
    except (FileNotFoundError, ValueError, RecursionError, KeyError, TypeError):
        return False


def require_collected(study: OpenStudy) -> Collected:
    """Raises MlclError unless the CSV files are there and were collected for what the study asks for now."""
    if (collected := read_collected(study)) is None and is_kept(study):
        raise MlclError(
            f"{study.paths.collected}: a file beside it is not what was written; take the folder from where it was "
            f"kept again, or keep the study's results anew (mlcl keep)"
        )
    if collected is None:
        raise MlclError(
            f"{study.paths.metrics_csv}: is not there, is not what was written, or was collected before the study "
            f"changed; collect the records (mlcl aggregate {study.outline.file}, with --partial while some are missing)"
        )
    return collected


def _digest(cells: Iterable[CellStatus]) -> str:
    """Of the records as they stand in `cells.csv` and the other files."""
    told = [[str(c.cell.id), c.damage, vars(c.record) if c.record is not None else None] for c in cells]
    return hashlib.sha256(canonical_json(told).encode()).hexdigest()


def _provenance(cells: Iterable[CellStatus]) -> dict[str, dict[str, int]]:
    runs = [cell.counted_record.run for cell in cells if cell.counted_record is not None]
    told = [{key: run.get(key) for key in RUN_FACTS} | (run.get("versions") or {}) for run in runs]
    names = dict.fromkeys(name for one in told for name in one)
    counts = {name: Counter(str(one[name]) for one in told if one.get(name) is not None) for name in names}
    return {name: dict(sorted(count.items())) for name, count in counts.items()}


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
    """Only a cell whose averaged weights are evaluated has its history read."""
    record = cell.counted_record
    training = ((record.result.get("settings") or {}).get("training") or {}) if record is not None else {}
    stage = training.get("finetuning") or training
    if cell.outcome != "ok" or record is None or stage.get("ema_decay") is None:
        return []
    if record.diagnostics.get("ema", {}).get("evaluated") == "plain":
        return []
    history = read_history(paths.cell(cell.cell.id) / HISTORY)
    return lagging_average(training, [line.step for line in history])


def _curve_rows(cell: CellStatus, paths: StudyPaths) -> Iterable[tuple[Any, ...]]:
    if cell.counted_record is None or cell.cell.id.variant != "base":
        return
    history = read_history(paths.cell(cell.cell.id) / HISTORY)
    if any(isfinite(line.loss) for line in history):
        series = ([getattr(line, name) for line in history] for name in ("loss", "val_loss", "val_micro_f1"))
        yield (*_coordinates(cell.cell.id), history[0].epoch, *map(_series, series))


def _series(values: Sequence[float]) -> str:
    """Empty where there is no value at all."""
    return " ".join(f"{value:.{CURVE_DIGITS}g}" for value in values) if any(map(isfinite, values)) else ""


class HistoryLine(NamedTuple):
    """What curves and diagnoses need of a line of `history.csv`: NaN where validation was not looked at."""

    epoch: int
    step: int
    loss: float
    val_loss: float
    val_micro_f1: float


def read_history(file: Path) -> list[HistoryLine]:
    """One line an epoch; empty where nothing was trained. Raises RecordError if the file is no history."""
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            return [
                HistoryLine(
                    int(row["epoch"]),
                    int(row["step"]),
                    float(row["loss"]),
                    *(float(row.get(name) or nan) for name in ("val_loss", "val_micro_f1")),
                )
                for row in csv.DictReader(lines)
            ]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError):
        raise RecordError(
            f"{file}: is no history of training; remove the record, and the cell is made again"
        ) from None


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
