"""Where a study stands: the state of each of its cells, defined here and nowhere else, and what is left to do.

Plan, status, coverage, collected results, tables and the workflow all count with `state_of`.
"""

from __future__ import annotations

import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mlcl.records.outline import OpenStudy, Outline, OutlineCell, Trial, open_study
from mlcl.records.paths import CellId, StudyPaths
from mlcl.records.record import Found, Record, find_record
from mlcl.records.running import running_since

State = Literal["current", "stale", "missing", "unknown"]
"""`current`: the record has the fingerprint that the study asks for (also if the cell failed); `stale`: it has
another; `missing`: there is no record, or a damaged one; `unknown`: raw data or local weights are absent, so that there
is no fingerprint to compare the record with."""


Find = Callable[[Path, CellId], Found]
"""How the record of a cell is found at its place: `find_record`, or the same with a memory."""

LINE_SHARE = 0.01
"""Of a run's time, that may go into saying where the study stands."""
LONGEST_SILENCE = 1200.0
"""Seconds. A time at which the line is due that is further off is that of a clock that was wrong."""


def state_of(fingerprint: str | None, record: Record | None) -> State:
    """`fingerprint`: the one that the study asks for; None if it cannot be computed here."""
    if record is None:
        return "missing"
    if fingerprint is None:
        return "unknown"
    return "current" if record.fingerprint == fingerprint else "stale"


@dataclass(frozen=True)
class CellStatus:
    """A cell that a study asks for, and its record if there is one."""

    cell: OutlineCell | Trial
    record: Record | None
    damage: str | None = None
    """Why there is no record though a file lies in its place."""

    @property
    def state(self) -> State:
        return state_of(self.cell.fingerprint, self.record)

    @property
    def counted_record(self) -> Record | None:
        """The record whose numbers may stand in tables; None for a stale or missing one."""
        return self.record if self.state in ("current", "unknown") else None

    @property
    def failed(self) -> bool:
        return self.counted_record is not None and self.counted_record.status != "ok"

    @property
    def outcome(self) -> str:
        """`ok`, `diverged`, `oom` or `error` for a record that counts; else `stale` or `missing`."""
        return self.counted_record.status if self.counted_record is not None else self.state


@dataclass(frozen=True)
class Counts:
    """How many cells of a study are in which state."""

    total: int
    current: int
    stale: int
    missing: int
    unknown: int
    failed: int
    """Of those whose record counts."""

    @classmethod
    def of(cls, states: Iterable[State], failed: int) -> Counts:
        counts = Counter(states)
        return cls(
            counts.total(), counts["current"], counts["stale"], counts["missing"], counts["unknown"], failed
        )

    @property
    def to_make(self) -> int:
        return self.stale + self.missing

    @property
    def complete(self) -> bool:
        """Is every cell's record current and without failure?"""
        return self.current == self.total and not self.failed

    def __str__(self) -> str:
        parts = [f"{self.current} of {self.total} cells have a current record"]
        for number, words in (
            (self.failed, "failed"),
            (self.stale, "stale"),
            (self.missing, "missing"),
            (self.unknown, "cannot be checked without raw data or weights"),
        ):
            if number:
                parts.append(f"{number} {words}")
        return ", ".join(parts)


@dataclass(frozen=True)
class StudyStatus:
    """A study at one moment."""

    study: str
    cells: Sequence[CellStatus]
    running: Sequence[CellId]
    seconds_left: float | None
    """None as long as no record tells how long such cells take."""

    @property
    def counts(self) -> Counts:
        return Counts.of((cell.state for cell in self.cells), len(self.failures))

    @property
    def failures(self) -> list[tuple[CellId, Record]]:
        """The failed cells whose record counts. A trial that diverged is a result of the search and no failure."""
        return [
            (c.cell.id, c.record)
            for c in self.cells
            if c.failed and c.record is not None and not isinstance(c.cell, Trial)
        ]

    @property
    def damaged(self) -> list[tuple[CellId, str]]:
        """The cells whose record is damaged, and how."""
        return [(c.cell.id, c.damage) for c in self.cells if c.damage is not None]

    def line(self) -> str:
        parts = [str(self.counts)]
        if self.running:
            shown = ", ".join(str(cell) for cell in self.running[:3])
            parts.append(f"running: {shown}{', ...' if len(self.running) > 3 else ''}")
        if self.counts.to_make and self.seconds_left is not None:
            parts.append(f"about {duration(self.seconds_left)} left")
        return " | ".join(parts)


def cell_statuses(outline: Outline, paths: StudyPaths, find: Find = find_record) -> list[CellStatus]:
    """All cells in the order of the study. Raises RecordError for a record of a later version of mlcl."""
    return [CellStatus(cell, *find(paths.record(cell.id), cell.id)) for cell in outline.cells]


def trial_statuses(outline: Outline, paths: StudyPaths, find: Find = find_record) -> list[CellStatus]:
    """The same for the trials of the search."""
    return [CellStatus(trial, *find(paths.record(trial.id), trial.id)) for trial in outline.trials]


def study_status(study: OpenStudy, find: Find = find_record) -> StudyStatus:
    """Reads the study's records as they are now, by `find`. Raises RecordError for a record of a later version."""
    cells = [*trial_statuses(*study, find), *cell_statuses(*study, find)]
    seconds: dict[tuple[str, str], list[float]] = defaultdict(list)
    open_cells, running = [], {}
    for status in cells:
        cell = status.cell.id
        if (record := status.counted_record) is not None:
            seconds[kind_of_cell(cell)].append(record.run["wall_seconds"])
            continue
        open_cells.append(cell)
        if (since := running_since(study.paths.unfinished(cell))) is not None:
            running[cell] = since
    return StudyStatus(study.outline.study, cells, list(running), _seconds_left(open_cells, running, seconds))


def line_if_due(study: str) -> str | None:
    """The line of a study in `results/`; None where it was said so lately that another reading of all records, which
    takes the longer the more there are, would cost more than LINE_SHARE of the time."""
    due = StudyPaths(study).line_due
    with suppress(FileNotFoundError):
        if time.time() < due.stat().st_mtime < time.time() + LONGEST_SILENCE:
            return None
    begun = time.perf_counter()
    line = study_status(open_study(study)).line()
    next_time = time.time() + min((time.perf_counter() - begun) / LINE_SHARE, LONGEST_SILENCE / 2)
    due.touch()
    os.utime(due, (next_time, next_time))
    return line


def kind_of_cell(cell: CellId) -> tuple[str, str]:
    """Cells that take about equally long."""
    return cell.dataset, cell.encoder if not cell.loss.startswith("random") else cell.loss


def _seconds_left(
    open_cells: list[CellId], running: dict[CellId, float], seconds: dict[tuple[str, str], list[float]]
) -> float | None:
    measured = [value for values in seconds.values() for value in values]
    if not measured:
        return None
    overall = sum(measured) / len(measured)
    left = 0.0
    for cell in open_cells:
        similar = seconds.get(kind_of_cell(cell))
        expected = sum(similar) / len(similar) if similar else overall
        spent = time.time() - running[cell] if cell in running else 0.0
        left += max(expected - spent, 0.0)
    return left / max(1, len(running))


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
