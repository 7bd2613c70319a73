"""Results of several machines made one, unless they contradict one another."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlcl.errors import MlclError
from mlcl.records.code import read_definitions, write_definitions
from mlcl.records.files import atomic_folder
from mlcl.records.outline import read_outline
from mlcl.records.paths import CellId, StudyPaths
from mlcl.records.record import RECORD, SCORES, Record, find_record, read_record, stored_files

MOST_LISTED = 30


class MergeError(MlclError):
    """Results contradict one another. The message lists where."""


@dataclass(frozen=True)
class Merged:
    """What was copied, what was there already, and what the study does not ask for."""

    copied: tuple[CellId, ...]
    present: tuple[CellId, ...]
    left_out: tuple[CellId, ...]

    def render(self) -> str:
        parts = [f"{len(self.copied)} cells copied", f"{len(self.present)} were there already"]
        if self.left_out:
            parts.append(f"{len(self.left_out)} left out, since the study does not ask for them")
        return ", ".join(parts)


@dataclass(frozen=True)
class _SourceCell:
    cell: CellId
    folder: Path
    record: Record


def merge(sources: Sequence[Path], study: str) -> Merged:
    """Copies the cells of each source (another machine's `results/<study>`) into this `results/<study>`.

    A source may be another study that shares cells with this one: where this study was planned here, only cells that
    it asks for are looked at. All are checked before anything is copied. Of a cell that is there more than once, one
    that went well wins over one that failed, and what is here over what is elsewhere; a damaged record here counts as
    missing.

    Raises MergeError, with a list, if a record elsewhere is damaged, went well but has no scores, or is reached by a
    link; if the same cell was made with different settings, the cells of a row or dataset with different settings, code
    or data, the cells of the study with different forms of a definition, or the same cell has different results.
    """
    target = StudyPaths(study).results
    for source in sources:
        if not source.is_dir():
            raise MergeError(f"{source}: there is no such folder")
        if not any(source.glob(f"*/*/*/*/seed*/{RECORD}")):
            raise MergeError(
                f"{source}: holds no record; name the folder results/<study> of the other machine"
            )
    refused: list[tuple[CellId, str]] = []
    candidates = [*_find(target, []), *(one for source in sources for one in _find(source, refused))]
    wanted = _wanted_cells(study)
    left_out = dict.fromkeys(one.cell for one in candidates if wanted is not None and one.cell not in wanted)
    candidates = [one for one in candidates if one.cell not in left_out]
    conflicts = [defect for cell, defect in refused if wanted is None or cell in wanted]
    conflicts += _different_settings(candidates)
    conflicts += _different_code(candidates)
    conflicts += _different_results(candidates)
    if conflicts := list(dict.fromkeys(conflicts)):
        more = f"\n  ... and {len(conflicts) - MOST_LISTED} more" if len(conflicts) > MOST_LISTED else ""
        listed = "".join(f"\n  {conflict}" for conflict in conflicts[:MOST_LISTED])
        raise MergeError(f"study {study}: nothing was merged, {len(conflicts)} conflicts:{listed}{more}")
    copied, present = [], []
    for cell, chosen in _choose(candidates, target).items():
        if chosen.folder == target / str(cell):
            present.append(cell)
        else:
            _copy(chosen, target)
            copied.append(cell)
    return Merged(tuple(copied), tuple(present), tuple(left_out))


def _wanted_cells(study: str) -> set[CellId] | None:
    """The cells that the study asks for; None if it was not planned here."""
    file = StudyPaths(study).outline
    if not file.exists():
        return None
    outline = read_outline(file)
    return {cell.id for cell in outline.all_cells}


def _find(folder: Path, refused: list[tuple[CellId, str]]) -> Iterator[_SourceCell]:
    """The whole records of a results folder; what is wrong with the others is added to `refused`."""
    for file in sorted(folder.glob(f"*/*/*/*/seed*/{RECORD}")):
        cell = CellId.parse(file.parent.relative_to(folder).as_posix())
        record, damage = find_record(file, cell)
        if record is not None:
            damage = _unfit(file, record, folder)
        if damage is not None:
            refused.append((cell, damage))
        elif record is not None:
            yield _SourceCell(cell, file.parent, record)


def _unfit(file: Path, record: Record, results: Path) -> str | None:
    """Why a record that is whole is not taken over; None if it is."""
    names = stored_files(file)
    if record.status == "ok" and SCORES not in names:
        return f"{file.with_name(SCORES)}: is missing, so that the record cannot be verified"
    for name in (RECORD, *names):
        path = file.parent / name
        while path != results:
            if path.is_symlink():
                return f"{path}: is a link; copy the results with the files that links stand for"
            path = path.parent
    return None


def _different_settings(candidates: Sequence[_SourceCell]) -> Iterator[str]:
    """Everything that must be the same over cells that a table puts side by side."""
    first: dict[tuple[str, str], tuple[str, Path]] = {}
    for one in candidates:
        made_of = one.record.result
        cell = one.cell
        row = f"{cell.dataset}/{cell.encoder}/{cell.loss}/{cell.variant}"
        parts: list[tuple[str, str, Any]] = [
            ("settings of", row, _without_seed(made_of.get("settings"))),
            ("data of", cell.dataset, one.record.result.get("dataset", {}).get("content_sha256")),
            ("code of", row, made_of.get("code")),
        ]
        for what, name, value in parts:
            text = json.dumps(value, sort_keys=True)
            first_value, where = first.setdefault((what, name), (text, one.folder))
            if first_value != text:
                yield f"{what} {name}: {_first_difference(json.loads(first_value), value)} ({where} and {one.folder})"


def _without_seed(settings: Any) -> Any:
    """What the cells of a row share: their settings but for the seed."""
    if not isinstance(settings, dict):
        return settings
    return {key: value for key, value in settings.items() if key != "seed"}


def _different_code(candidates: Sequence[_SourceCell]) -> Iterator[str]:
    """Definitions that not all records were made by in the same form, whatever their row."""
    first: dict[str, tuple[str, Path]] = {}
    codes = dict.fromkeys((one.folder.parents[4], str(one.record.result.get("code"))) for one in candidates)
    for results, code in codes:
        for name, digest in (read_definitions(results, code) or {}).items():
            first_value, where = first.setdefault(name, (digest, results))
            if first_value != digest:
                yield f"code: {name}: is not the same in both ({where} and {results})"


def _first_difference(a: Any, b: Any, path: str = "") -> str:
    if isinstance(a, dict) and isinstance(b, dict):
        for key in sorted(a.keys() | b.keys()):
            if a.get(key) != b.get(key):
                return _first_difference(a.get(key), b.get(key), f"{path}.{key}" if path else key)
    short = [text if len(text) <= 20 else f"{text[:12]}..." for text in (str(a), str(b))]
    return f"{path + ': ' if path else ''}{short[0]} and {short[1]}"


def _different_results(candidates: Sequence[_SourceCell]) -> Iterator[str]:
    first: dict[CellId, _SourceCell] = {}
    for one in candidates:
        if one.record.status != "ok":
            continue
        other = first.setdefault(one.cell, one)
        if other.record.fingerprint != one.record.fingerprint:
            yield f"{one.cell}: made of different things ({other.folder} and {one.folder})"
        elif _shared_metrics(other, one) != _shared_metrics(one, other):
            yield f"{one.cell}: the same settings, but different results ({other.folder} and {one.folder})"


def _shared_metrics(one: _SourceCell, other: _SourceCell) -> dict[tuple[str, str, str], float]:
    """The values of the metrics that both have: a newer version may have more."""
    theirs = other.record.metrics
    return {
        (readout, split, metric): value
        for readout, splits in one.record.metrics.items()
        for split, metrics in splits.items()
        for metric, value in metrics.items()
        if metric in theirs.get(readout, {}).get(split, {})
    }


def _choose(candidates: Sequence[_SourceCell], target: Path) -> dict[CellId, _SourceCell]:
    chosen: dict[CellId, _SourceCell] = {}
    for one in candidates:
        best = chosen.get(one.cell)
        if best is None or (best.record.status != "ok" and one.record.status == "ok"):
            chosen[one.cell] = one
    return chosen


def _copy(source: _SourceCell, target: Path) -> None:
    """The record and its files; in the place of a record that failed, if there is one."""
    with atomic_folder(target / str(source.cell)) as folder:
        for name in (*stored_files(source.folder / RECORD), RECORD):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source.folder / name, folder / name)
        read_record(folder / RECORD)  # a copy that is not whole takes no record's place
    code = str(source.record.result.get("code"))
    if (definitions := read_definitions(source.folder.parents[4], code)) is not None:
        write_definitions(target, code, definitions)
    card, here = source.folder.parents[3] / "card.json", target / source.cell.dataset / "card.json"
    if card.exists() and not card.is_symlink() and not here.exists():
        shutil.copyfile(card, here)
