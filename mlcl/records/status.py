"""How far a study is: cells done and running, and about how long the rest will take."""

from __future__ import annotations

import json
import os
import socket
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from mlcl.records.collect import FoundCell, find_records
from mlcl.records.files import write_json
from mlcl.records.outline import NO_ENCODER, Outline, read_outline
from mlcl.records.paths import CellId, StudyPaths
from mlcl.records.record import Record, read_record_if_present

RUNNING = "running.json"


class Running:
    """A mark in a cell's bookkeeping folder, there as long as the cell is being made."""

    def __init__(self, folder: Path) -> None:
        self._mark = folder / RUNNING

    def __enter__(self) -> None:
        write_json(self._mark, {"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()})

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._mark.unlink(missing_ok=True)


@dataclass(frozen=True)
class Progress:
    """A look at a study at one moment."""

    total: int
    done: int
    failed: int
    running: list[CellId]
    seconds_left: float | None
    """None as long as nothing is known of how long such cells take."""

    def line(self) -> str:
        parts = [f"{self.done} of {self.total} cells done"]
        if self.failed:
            parts.append(f"{self.failed} failed")
        if self.running:
            shown = ", ".join(str(cell) for cell in self.running[:3])
            parts.append(f"running: {shown}{', ...' if len(self.running) > 3 else ''}")
        if self.done < self.total and self.seconds_left is not None:
            parts.append(f"about {duration(self.seconds_left)} left")
        return " | ".join(parts)


def study_progress(study: str) -> Progress:
    """Reads the study's requests and records. A record counts if its request is not newer (see `plan`)."""
    paths = StudyPaths(study)
    planned = _cells(json.loads(paths.outline.read_text(encoding="utf-8")))
    seconds: dict[tuple[str, str], list[float]] = defaultdict(list)
    open_cells, running, failed = [], {}, 0
    for cell in planned:
        if _is_current(paths, cell):
            record = read_record_if_present(paths.record(cell))
            if record is not None:
                failed += record.status != "ok"
                seconds[_kind(cell)].append(record.run["wall_seconds"])
                continue
        open_cells.append(cell)
        if (since := _running_since(paths.request(cell).with_name(RUNNING))) is not None:
            running[cell] = since
    left = _time_left(open_cells, running, seconds)
    return Progress(len(planned), len(planned) - len(open_cells), failed, list(running), left)


def _kind(cell: CellId) -> tuple[str, str]:
    """Cells that take about equally long."""
    return cell.dataset, cell.encoder if not cell.loss.startswith("random") else cell.loss


def _is_current(paths: StudyPaths, cell: CellId) -> bool:
    try:
        return paths.request(cell).stat().st_mtime_ns <= paths.record(cell).stat().st_mtime_ns
    except FileNotFoundError:
        return False


def _running_since(mark: Path) -> float | None:
    try:
        owner = json.loads(mark.read_text(encoding="utf-8"))
        if owner["host"] == socket.gethostname():
            os.kill(owner["pid"], 0)
    except (OSError, ValueError, KeyError):
        return None
    return float(owner["since"])


def _time_left(
    open_cells: list[CellId], running: dict[CellId, float], seconds: dict[tuple[str, str], list[float]]
) -> float | None:
    everything = [value for values in seconds.values() for value in values]
    if not everything:
        return None
    overall = sum(everything) / len(everything)
    left = 0.0
    for cell in open_cells:
        known = seconds.get(_kind(cell))
        expected = sum(known) / len(known) if known else overall
        spent = time.time() - running[cell] if cell in running else 0.0
        left += max(expected - spent, 0.0)
    return left / max(1, len(running))


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def failures(study: str) -> list[tuple[CellId, Record]]:
    """The cells of a study whose record says that they failed."""
    paths = StudyPaths(study)
    outline = json.loads(paths.outline.read_text(encoding="utf-8"))
    found = ((cell, read_record_if_present(paths.record(cell))) for cell in _cells(outline))
    return [(cell, record) for cell, record in found if record is not None and record.status != "ok"]


def _cells(outline: dict[str, Any]) -> list[CellId]:
    return [CellId.parse(cell["id"]) for cell in outline["cells"]]


SYMBOLS = {"diverged": "d", "oom": "m", "error": "e", "missing": ".", "stale": "o"}
"""What stands behind a count; `o`: out of date."""


@dataclass(frozen=True)
class Coverage:
    """For each (loss, variant) and (dataset, encoder): the states of its seeds; skipped rows have the reason."""

    study: str
    columns: tuple[tuple[str, str], ...]
    rows: tuple[tuple[str, str], ...]
    states: dict[tuple[str, str, str, str], Counter[str]]
    skipped: dict[tuple[str, str, str, str], str]

    @property
    def counts(self) -> Counter[str]:
        return sum(self.states.values(), Counter())

    def text(self, loss: str, variant: str, dataset: str, encoder: str) -> str:
        """`3/3`, or with what is not well: `1/3 d.` (one diverged, one missing); `skip`; nothing if not asked for."""
        key = (dataset, encoder, loss, variant)
        if key in self.skipped:
            return "skip"
        if key not in self.states:
            return ""
        states = self.states[key]
        marks = "".join(SYMBOLS[state] * n for state, n in sorted(states.items()) if state != "ok")
        return f"{states['ok']}/{sum(states.values())}" + (f" {marks}" if marks else "")

    def render(self) -> str:
        counts = self.counts
        total = sum(counts.values())
        told = ", ".join(f"{n} {state}" for state, n in counts.most_common() if state != "ok")
        head = f"study {self.study}: {counts['ok']} of {total} cells have a current result" + (
            f"; {told}" if told else ""
        )
        names = [loss if variant == "base" else f"{loss} ({variant})" for loss, variant in self.rows]
        titles = [d if e == NO_ENCODER else f"{d}/{e}" for d, e in self.columns]
        body = [[self.text(*row, *column) for column in self.columns] for row in self.rows]
        widths = [max(map(len, column)) for column in zip(titles, *body, strict=True)]
        first = max(map(len, names), default=0)
        lines = [" " * first + "  " + "  ".join(t.ljust(w) for t, w in zip(titles, widths, strict=True))]
        for name, cells in zip(names, body, strict=True):
            lines.append(
                name.ljust(first) + "  " + "  ".join(c.ljust(w) for c, w in zip(cells, widths, strict=True))
            )
        legend = ", ".join(f"{symbol} {state}" for state, symbol in SYMBOLS.items() if counts[state])
        return "\n".join(
            [
                head,
                "",
                *(line.rstrip() for line in lines),
                *(["", legend] if legend else []),
            ]
        )


def coverage(study: str) -> Coverage:
    """Looks at the records that are there now. Raises MlclError if the study was never planned."""
    outline = read_outline(study)
    states: dict[tuple[str, str, str, str], Counter[str]] = {}
    for found in find_records(outline, StudyPaths(study)):
        cell = found.cell.id
        states.setdefault((cell.dataset, cell.encoder, cell.loss, cell.variant), Counter())[
            _state(found)
        ] += 1
    skipped = {(row.dataset, row.encoder, row.loss, row.variant): row.reason for row in outline.skipped}
    return Coverage(outline.study, _columns(states, outline), _rows(outline), states, skipped)


def _state(found: FoundCell) -> str:
    if found.record is None:
        return "missing"
    return "stale" if found.stale else found.record.status


def _columns(
    states: dict[tuple[str, str, str, str], Counter[str]], outline: Outline
) -> tuple[tuple[str, str], ...]:
    """Datasets in the order of the study, each with the encoders that it has cells for, none last."""
    pairs = {key[:2] for key in states} | {(row.dataset, row.encoder) for row in outline.skipped}
    ordered = [(d, e) for d in outline.datasets for e in outline.encoders_with_none]
    return tuple(pair for pair in ordered if pair in pairs)


def _rows(outline: Outline) -> tuple[tuple[str, str], ...]:
    trained = [(loss, variant) for loss in outline.losses for variant in outline.variants]
    return (*trained, *((baseline, "base") for baseline in outline.baselines))
