"""The choice among the trials of a search: from their records, on validation, by one rule for all losses.

A trial is a cell of its own: variant `trial-00`, `trial-01`, ..., with the search's seed. What it draws stands in the
outline.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlcl.errors import MlclError
from mlcl.evaluation.ranges import higher_is_better
from mlcl.evaluation.readouts import preference
from mlcl.records.files import atomic_file, write_json
from mlcl.records.outline import OpenStudy, SearchOutline, Trial
from mlcl.records.paths import SearchRow
from mlcl.records.record import Record
from mlcl.records.status import CellStatus, trial_statuses

NEAR_END = 0.1
"""Share of a range, of its logarithm for `log_uniform`, that counts as its end."""


@dataclass(frozen=True)
class Choice:
    """The best trial of a row: its value on validation, its settings, and those that lie at an end of their range."""

    trial: Trial
    value: float
    edges: tuple[str, ...]


@dataclass(frozen=True)
class Chosen:
    """A row's choice as `chosen.json` tells it."""

    trial: str
    """Its variant: `trial-00`, ..."""
    value: float
    settings: dict[str, Any]
    edges: tuple[str, ...]


def value_of(record: Record, search: SearchOutline) -> float | None:
    """The trial's value on validation; None if it failed or has no such metric."""
    if record.status != "ok":
        return None
    for readout in preference(search.readout):
        if readout in record.metrics:
            return record.metrics[readout].get("val", {}).get(search.metric)
    return None


def choose(search: SearchOutline, trials: Sequence[tuple[Trial, Record]]) -> Choice | None:
    """The best of a row's trials, the first of equals; None if all failed."""
    sign = 1.0 if higher_is_better(search.metric) else -1.0
    scored = [(trial, value) for trial, record in trials if (value := value_of(record, search)) is not None]
    if not scored:
        return None
    trial, value = max(scored, key=lambda pair: sign * pair[1])
    return Choice(trial, value, tuple(_edges(search, trial)))


def _edges(search: SearchOutline, trial: Trial) -> Iterator[str]:
    """`learning_rate: lowest`: a better value may lie beyond."""
    space = search.space | search.losses.get(trial.id.loss, {})
    for key, value in trial.settings.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        position = _position(space[key], float(value))
        if position is not None and position <= NEAR_END:
            yield f"{key}: lowest"
        elif position is not None and position >= 1 - NEAR_END:
            yield f"{key}: highest"


def _position(given: Any, value: float) -> float | None:
    """Where in its range a value lies, from 0 to 1; None for a choice among fewer than three numbers."""
    if isinstance(given, Mapping):
        ((kind, ends),) = given.items()
        low, high = (math.log(end) if kind == "log_uniform" else float(end) for end in ends)
        at = math.log(value) if kind == "log_uniform" else value
        return (at - low) / (high - low)
    numbers = sorted({float(one) for one in given if isinstance(one, int | float)})
    return numbers.index(value) / (len(numbers) - 1) if len(numbers) >= 3 and value in numbers else None


def choices(study: OpenStudy) -> dict[SearchRow, Choice]:
    """row -> its choice, for the rows whose trials all have a record that counts."""
    search = study.outline.search
    if search is None:
        return {}
    by_row: dict[SearchRow, list[CellStatus]] = {}
    for status in trial_statuses(*study):
        by_row.setdefault(status.cell.id.row, []).append(status)
    found = {}
    for row, statuses in by_row.items():
        trials = [
            (s.cell, s.counted_record)
            for s in statuses
            if s.counted_record is not None and isinstance(s.cell, Trial)
        ]
        if len(trials) == len(statuses) and (choice := choose(search, trials)) is not None:
            found[row] = choice
    return found


def write_search(study: OpenStudy) -> None:
    """`search.csv`: one row for each setting of each trial, with its value; `chosen.json`: the choices."""
    outline, paths = study
    if outline.search is None:
        return
    chosen = choices(study)
    columns = ("dataset", "encoder", "loss", "trial", "state", "value", "chosen", "setting", "setting_value")
    with atomic_file(paths.search_csv) as file, file.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.writer(lines, lineterminator="\n")
        writer.writerow(columns)
        for status in trial_statuses(outline, paths):
            trial, row = status.cell, status.cell.id.row
            assert isinstance(trial, Trial)
            record = status.counted_record
            value = value_of(record, outline.search) if record is not None else None
            is_chosen = row in chosen and chosen[row].trial.id == trial.id
            for key, setting in trial.settings.items():
                shown = "" if value is None else value
                writer.writerow((*row, trial.id.variant, status.outcome, shown, is_chosen, key, setting))
    told = {
        row: Chosen(one.trial.id.variant, one.value, one.trial.settings, one.edges)
        for row, one in chosen.items()
    }
    write_chosen(paths.chosen, told)


def write_chosen(file: Path, chosen: Mapping[SearchRow, Chosen]) -> None:
    write_json(file, {"/".join(row): asdict(one) for row, one in chosen.items()})


def read_chosen(file: Path) -> dict[SearchRow, Chosen]:
    """The choices by row. Raises MlclError if the file cannot be read."""
    found: dict[SearchRow, Chosen] = {}
    try:
        for name, told in json.loads(file.read_text(encoding="utf-8")).items():
            dataset, encoder, loss = name.split("/")
            found[dataset, encoder, loss] = Chosen(**told | {"edges": tuple(told["edges"])})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise MlclError(f"{file}: cannot be read ({error!r}); aggregate the study's records again") from None
    return found
