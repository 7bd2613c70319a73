"""Records that changed code made stale are kept, if a sample of them comes out the same when it is made again.

Of each protocol and encoder family the cheapest cell is made again in a folder aside, and more cells until each changed
definition has been run by one. If all results and scores are equal, the other records get the new fingerprint and a
line that says by which cells this was proved. If one differs, it is named and nothing is changed.
"""

from __future__ import annotations

import multiprocessing
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlcl import encoders
from mlcl.errors import MlclError
from mlcl.records.code import write_definitions
from mlcl.records.files import write_json
from mlcl.records.nested import flatten
from mlcl.records.paths import StudyPaths
from mlcl.records.record import EMBEDDINGS, SCORES, Record, read_record, write_record
from mlcl.study.code import code_of
from mlcl.study.make import make_cell, prepare_dataset
from mlcl.study.plan import Plan, PlannedCell

ASIDE = ".adopt"
"""Folder beside the studies' results in which cells are made again."""
RESULTS_OF_CODE = ("ok", "diverged")
"""The states of a record that the same code reaches again; `oom` and `error` may come from the machine."""
NOT_COMPARED = frozenset({"study", "fingerprint", "code", "metrics_source", "adopted"})
"""Keys of a `result` block that name code or place."""
FORMER_KEYS = frozenset({"core_sources", "loss_source"})
"""What records of earlier versions said of their code."""


class AdoptError(MlclError):
    """A cell that was made again came out differently."""


@dataclass(frozen=True)
class Adopted:
    """What became of the stale records of a study."""

    records: int
    proved_by: tuple[str, ...]
    left: int
    """Stale cells whose settings, data or weights changed as well, or that failed."""

    def render(self) -> str:
        if not self.records:
            return f"no record is stale for changed code alone; {self.left} are stale for other reasons"
        left = f"; {self.left} stale cells are left to be made again" if self.left else ""
        return f"{self.records} records adopted, proved by {', '.join(self.proved_by)}{left}"


def adopt(
    plan: Plan,
    say: Callable[[str], None],
    log: Path,
    whole: bool = False,
    within: float | None = None,
) -> Adopted:
    """Gives stale records the fingerprints that the plan asks for, if a sample of them gives the same results.

    The plan is written (`Plan.write`). whole: make all of them again, not a sample. within: how far scores and metrics
    may lie apart, such as 1e-4 on a GPU, which does not repeat itself bit for bit; None: not at all. What training
    says goes to the file `log`. Raises AdoptError where a cell differs or cannot be made; no record is changed then.
    """
    stale = [planned for planned in plan.all_cells if planned.state == "stale"]
    candidates = [planned for planned in stale if _may_be_adopted(planned)]
    if not candidates:
        return Adopted(0, (), len(stale))
    sample = candidates if whole else choose_sample(candidates)
    paths = StudyPaths(f"{ASIDE}/{plan.study.name}")
    shutil.rmtree(paths.results, ignore_errors=True)
    for dataset in dict.fromkeys(planned.cell.id.dataset for planned in sample):
        prepare_dataset(plan.paths.dataset_request(dataset))
    for number, planned in enumerate(sample, 1):
        say(f"making {planned.cell.id} again ({number} of {len(sample)})")
        _make_again(plan, planned, paths, log)
        if difference := next(_differences(plan.paths, paths, planned, within), None):
            raise AdoptError(
                f"{planned.cell.id}: {difference}; no record was changed. The cell as it comes out now lies in "
                f"{paths.cell(planned.cell.id)}; a run of the study makes the {len(stale)} stale cells again"
            )
    proved_by = tuple(str(planned.cell.id) for planned in sample)
    for planned in candidates:
        _restamp(plan.paths, planned, proved_by, within)
    shutil.rmtree(paths.results, ignore_errors=True)
    return Adopted(len(candidates), proved_by, len(stale) - len(candidates))


def _may_be_adopted(planned: PlannedCell) -> bool:
    record = planned.record
    return record is not None and record.status in RESULTS_OF_CODE and planned.differs_in_code_alone()


def choose_sample(candidates: Sequence[PlannedCell]) -> list[PlannedCell]:
    """The cheapest cell of each protocol and encoder family, and cells that run what these do not: each definition
    that changed for a candidate changed for a cell of the sample."""
    by_cost = sorted(candidates, key=lambda planned: (_seconds(planned), str(planned.cell.id)))
    first: dict[tuple[str, str | None], PlannedCell] = {}
    for planned in by_cost:
        first.setdefault(_kind(planned), planned)
    sample = list(first.values())
    changes = {id(planned): _changes(planned) for planned in by_cost}
    open_changes = frozenset().union(*changes.values())
    open_changes -= frozenset().union(*(changes[id(planned)] for planned in sample))
    while open_changes:
        best = max(
            by_cost, key=lambda planned: len(changes[id(planned)] & open_changes)
        )  # the cheapest of equals
        sample.append(best)
        open_changes -= changes[id(best)]
    return sample


def _kind(planned: PlannedCell) -> tuple[str, str | None]:
    settings = planned.cell.settings
    family = encoders.describe(settings.encoder.name).name if settings.encoder else None
    return settings.protocol, family


def _seconds(planned: PlannedCell) -> float:
    assert planned.record is not None
    return float(planned.record.run["wall_seconds"])


def _changes(planned: PlannedCell) -> frozenset[str]:
    """What changed for the cell: definitions or, where they cannot be named, the code as a whole."""
    assert planned.record is not None
    named = planned.changed_definitions()
    before, after = planned.record.result.get("code"), code_of(planned.cell.settings).digest
    return frozenset(named or [f"{before} -> {after}"])


def _make_again(plan: Plan, planned: PlannedCell, paths: StudyPaths, log: Path) -> None:
    """In a process of its own, as the workflow makes cells: threads are set before torch is loaded."""
    request = plan.request(planned) | {"study": paths.study, "attempt": 1}
    file = paths.request(planned.cell.id)
    write_json(file, request)
    process = multiprocessing.get_context("spawn").Process(target=_make, args=(file, log))
    process.start()
    process.join()
    if process.exitcode or not paths.record(planned.cell.id).exists():
        raise AdoptError(f"{planned.cell.id}: could not be made again (see {log}); no record was changed")


def _make(request: Path, log: Path) -> None:
    with log.open("a", encoding="utf-8") as stream:
        make_cell(request, stream)


def _differences(
    before: StudyPaths, after: StudyPaths, planned: PlannedCell, within: float | None
) -> Iterator[str]:
    """What is not the same in a record and in the one that was made again."""
    cell = planned.cell.id
    old, new = read_record(before.record(cell)), read_record(after.record(cell))
    yield from _result_differences(old, new, within)
    for name in (SCORES, EMBEDDINGS):
        yield from _array_differences(before.cell(cell) / name, after.cell(cell) / name, within)


def _result_differences(old: Record, new: Record, within: float | None) -> Iterator[str]:
    left_out = NOT_COMPARED | FORMER_KEYS
    if old.result.get("metrics_source") != new.result.get("metrics_source"):
        left_out |= {"metrics"}  # computed by other code; the scores that they follow from are compared
    first, second = (
        flatten({key: value for key, value in record.result.items() if key not in left_out})
        for record in (old, new)
    )
    for key in dict.fromkeys([*first, *second]):
        a, b = first.get(key, "not there"), second.get(key, "not there")
        if not _alike(a, b, within):
            yield f"{key}: {a} -> {b}"


def _alike(a: Any, b: Any, within: float | None) -> bool:
    if within is not None and isinstance(a, float) and isinstance(b, float):
        return abs(a - b) <= within
    return bool(a == b)


def _array_differences(before: Path, after: Path, within: float | None) -> Iterator[str]:
    first, second = _arrays(before), _arrays(after)
    for name in dict.fromkeys([*first, *second]):
        where = f"{before.name}: {name}"
        if name not in first or name not in second:
            yield f"{where}: only {'before' if name in first else 'now'}"
            continue
        a, b = first[name], second[name]
        if a.shape != b.shape or a.dtype != b.dtype:
            yield f"{where}: {a.dtype} {a.shape} -> {b.dtype} {b.shape}"
        elif a.tobytes() != b.tobytes():
            is_number = np.issubdtype(a.dtype, np.floating)
            largest = float(np.abs(a - b).max()) if is_number else np.inf
            if within is None or not largest <= within:
                by = f", by up to {largest:.3g}" if is_number else ""
                yield f"{where}: {int((a != b).sum())} of {a.size} values differ{by}"


def _arrays(file: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(file, allow_pickle=False) as stored:
            return dict(stored)
    except FileNotFoundError:
        return {}


def _restamp(paths: StudyPaths, planned: PlannedCell, proved_by: Iterable[str], within: float | None) -> None:
    """Writes the planned fingerprint, and all that it is made of, into the record."""
    record, code = planned.record, code_of(planned.cell.settings)
    assert record is not None
    assert planned.payload is not None
    adopted: dict[str, Any] = {"from": record.fingerprint, "proved_by": list(proved_by)}
    if within is not None:
        adopted["within"] = within
    if "adopted" in record.result:
        adopted["before"] = record.result["adopted"]
    unchanged = {key: value for key, value in record.result.items() if key not in FORMER_KEYS}
    stamped = {**unchanged, **planned.payload, "fingerprint": planned.fingerprint, "adopted": adopted}
    write_definitions(paths.results, code.digest, code.definitions)
    write_record(paths.record(planned.cell.id), Record(stamped, record.run))
