"""Gaps of kept results are filled from other kept results: parts that several machines or sessions made become one.

Only cells that the folder asks for with the same fingerprint are taken, so what was made with other settings, data or
code never stands beside the rest. Where the folder has not chosen the settings of a row yet, all trials of that row and
the choice are taken too, if the other search made the same trials.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from mlcl.digests import sealed
from mlcl.errors import MlclError
from mlcl.records.collect import (
    CELLS_COLUMNS,
    COORDINATES,
    is_kept,
    require_collected,
)
from mlcl.records.files import atomic_folder, write_json
from mlcl.records.labels import Confusion, read_confusions, write_confusions
from mlcl.records.outline import OpenStudy, Outline, Trial, open_study, write_outline
from mlcl.records.paths import CellId, SearchRow, StudyPaths
from mlcl.records.search import read_chosen, write_chosen
from mlcl.reporting.keep import Kept, finish
from mlcl.reporting.results import read_csv

ABSENT = ("missing", "stale", "skipped")
"""States of a cell without a record that counts."""
BY_CELL = ("metrics_csv", "costs_csv", "cells_csv", "curves_csv", "labels_csv", "jackknife")
"""The files of kept results that have rows for each cell."""
Provenance = dict[str, dict[str, int]]
Line = dict[str, str]
T = TypeVar("T")


@dataclass(frozen=True)
class Filled:
    """The folder as it is now; how many cells came from elsewhere, and how many there are of other origin."""

    kept: Kept
    taken: int
    different: int
    """Cells that the folder lacks and a source has, made with other settings, data or code."""

    def render(self) -> str:
        rest = (
            f"; {self.different} are of other settings, data or code and stay missing"
            if self.different
            else ""
        )
        return f"{self.taken} cells taken{rest}; {self.kept.render()}"


@dataclass(frozen=True)
class _Folder:
    study: OpenStudy
    provenance: Provenance
    states: dict[CellId, str]

    @property
    def outline(self) -> Outline:
        return self.study.outline

    def has(self, cell: CellId) -> bool:
        return self.states.get(cell, "missing") not in ABSENT

    def trials(self, row: SearchRow) -> list[Trial]:
        return [trial for trial in self.outline.trials if trial.id.row == row]


@dataclass(frozen=True)
class _Taken:
    """What one source gives."""

    source: _Folder
    cells: list[CellId]
    rows: list[SearchRow]
    """Rows of the search whose trials and choice are taken."""
    different: int


def fill(folder: Path, sources: Sequence[Path]) -> Filled:
    """Takes what `folder` lacks from `sources`, all of them kept results (`mlcl keep`).

    Raises MlclError if one of them is not, or if the result is larger than 3 MB; nothing is changed then.
    """
    for source in sources:
        if source.resolve() == folder.resolve():
            raise MlclError(f"{source}: is the folder that is to be filled")
    before, others = _open(folder), [_open(source) for source in sources]
    taken, different = 0, 0
    with atomic_folder(folder) as new:
        shutil.copytree(folder, new, dirs_exist_ok=True)
        shutil.rmtree(new / "tables", ignore_errors=True)
        here = replace(before, study=OpenStudy(before.outline, StudyPaths(before.outline.study, folder=new)))
        for other in others:
            given = _given(here, other)
            here = _take(given, here)
            taken += len(given.cells)
            different += given.different
        kept = finish(here.study, folder, here.provenance)
    return Filled(kept, taken, different)


def _open(folder: Path) -> _Folder:
    study = open_study(folder)
    if not is_kept(study):
        raise MlclError(f"{folder}: holds no kept results; keep the study's results first (mlcl keep)")
    provenance = require_collected(study).provenance
    cells = read_csv(study.paths.cells_csv, CELLS_COLUMNS)
    states = {
        CellId(*place): state
        for *place, state in zip(*(cells[column].tolist() for column in (*COORDINATES, "state")), strict=True)
    }
    return _Folder(study, provenance, states)


def _given(here: _Folder, source: _Folder) -> _Taken:
    fingerprints = {cell.id: cell.fingerprint for cell in source.outline.cells}
    rows = list(_searched_alike(here, source))
    cells, different = [], 0
    for cell in here.outline.cells:
        if here.has(cell.id) or not source.has(cell.id):
            continue
        waiting = cell.fingerprint is None and cell.id.row in rows
        same = cell.fingerprint is not None and cell.fingerprint == fingerprints.get(cell.id)
        if waiting or same:
            cells.append(cell.id)
        else:
            different += 1
    return _Taken(source, cells, rows, different)


def _searched_alike(here: _Folder, source: _Folder) -> Iterator[SearchRow]:
    """Rows whose settings are not chosen here, and are there, by the same search with the same trials."""
    if here.outline.search is None or here.outline.search != source.outline.search:
        return
    chosen = read_chosen(source.study.paths.chosen)
    waiting = dict.fromkeys(cell.id.row for cell in here.outline.cells if cell.fingerprint is None)
    for row in waiting:
        trials = here.trials(row)
        known = bool(trials) and all(trial.fingerprint is not None for trial in trials)
        if row in chosen and known and trials == source.trials(row):
            yield row


def _take(given: _Taken, folder: _Folder) -> _Folder:
    """Writes what is given into the folder; returns the folder as it is then."""
    if not given.cells and not given.rows:
        return folder
    (outline, here), source = folder.study, given.source
    there = source.study.paths
    order = [cell.id for cell in outline.cells]
    for name in BY_CELL:
        _take_rows(getattr(there, name), getattr(here, name), set(given.cells), _cell, order)
    if given.rows:
        _take_search(there, here, given.rows, outline)
    _take_confusions(there, here, given.cells)
    _take_pair_weights(there, here)
    for dataset in dict.fromkeys(cell.dataset for cell in given.cells):
        if there.card(dataset).exists() and not here.card(dataset).exists():
            here.card(dataset).parent.mkdir(exist_ok=True)
            shutil.copyfile(there.card(dataset), here.card(dataset))
    chosen = {cell.id: cell for cell in source.outline.cells if cell.id.row in given.rows}
    cells = [chosen.get(cell.id, cell) if cell.fingerprint is None else cell for cell in outline.cells]
    outline = replace(outline, cells=cells)
    write_outline(outline, here.outline)
    made = sum(source.has(cell.id) for cell in source.outline.cells)
    provenance = _added(folder.provenance, _share(source.provenance, len(given.cells), made))
    states = folder.states | {cell: source.states[cell] for cell in given.cells}
    return _Folder(OpenStudy(outline, here), provenance, states)


def _take_rows(
    there: Path, here: Path, taken: Collection[T], key: Callable[[Line], T], order: Sequence[T]
) -> None:
    """The source's lines of what is taken stand in the place of those here; all in this order."""
    if not there.exists():
        return
    (columns, old), (others, new) = _read(here) if here.exists() else ([], []), _read(there)
    columns = [*columns, *(name for name in others if name not in columns)]
    lines = [line for line in old if key(line) not in taken] + [line for line in new if key(line) in taken]
    places = {one: place for place, one in enumerate(order)}
    lines.sort(key=lambda line: places.get(key(line), len(places)))
    with here.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)


def _read(file: Path) -> tuple[list[str], list[Line]]:
    with file.open(newline="", encoding="utf-8") as lines:
        reader = csv.DictReader(lines)
        rows = list(reader)
        return list(reader.fieldnames or ()), rows


def _row(line: Line) -> SearchRow:
    return line["dataset"], line["encoder"], line["loss"]


def _cell(line: Line) -> CellId:
    return CellId(*_row(line), line["variant"], int(line["seed"]))


def _take_search(there: StudyPaths, here: StudyPaths, rows: Collection[SearchRow], outline: Outline) -> None:
    order = list(dict.fromkeys(trial.id.row for trial in outline.trials))
    _take_rows(there.search_csv, here.search_csv, rows, _row, order)
    others = read_chosen(there.chosen)
    chosen = read_chosen(here.chosen) | {row: others[row] for row in rows}
    write_chosen(here.chosen, {row: chosen[row] for row in order if row in chosen})


def _take_confusions(there: StudyPaths, here: StudyPaths, cells: Sequence[CellId]) -> None:
    """They are sums over the seeds of a row: those of a row that has seeds here and there are added if they are of the
    same labels, else left out, since they would be those of some seeds."""
    own, others = read_confusions(here.confusions), read_confusions(there.confusions)
    for row in dict.fromkeys(cell.row for cell in cells if cell.variant == "base"):
        if (other := others.get(row)) is None:
            continue
        mine = own.get(row)
        if mine is None:
            own[row] = other
        elif (mine.labels, mine.tuned) == (other.labels, other.tuned):
            own[row] = _sum(mine, other)
        else:
            del own[row]
    write_confusions(here.confusions, {"/".join(row): asdict(one) for row, one in own.items()})


def _sum(first: Confusion, second: Confusion) -> Confusion:
    def add(name: str) -> Any:
        return np.round(np.add(getattr(first, name), getattr(second, name)), 6).tolist()

    sums = {name: add(name) for name in ("positives", "instead", "others", "nothing", "seeds")}
    return Confusion(labels=first.labels, tuned=first.tuned, **sums)


def _take_pair_weights(there: StudyPaths, here: StudyPaths) -> None:
    """They follow from the loss alone: a loss that has none here gets those of the source."""
    if not there.pair_weights.exists():
        return
    others = json.loads(there.pair_weights.read_text(encoding="utf-8"))
    if not here.pair_weights.exists():
        shutil.copyfile(there.pair_weights, here.pair_weights)
        return
    own = json.loads(here.pair_weights.read_text(encoding="utf-8"))
    if own["labels"] == others["labels"] and set(others["losses"]) - set(own["losses"]):
        write_json(
            here.pair_weights, sealed({"labels": own["labels"], "losses": others["losses"] | own["losses"]})
        )


def _share(provenance: Provenance, taken: int, made: int) -> Provenance:
    """Of the records that are taken. Where only some are and these could be of several, all of these are named."""
    if taken == made:
        return provenance
    return {name: {" or ".join(counts): taken} for name, counts in provenance.items() if counts and taken}


def _added(first: Provenance, second: Provenance) -> Provenance:
    names = dict.fromkeys((*first, *second))
    counts = {name: Counter(first.get(name, {})) + Counter(second.get(name, {})) for name in names}
    return {name: dict(sorted(count.items())) for name, count in counts.items()}
