"""How far a study is: cells done and running, and about how long the rest will take."""

from __future__ import annotations

import json
import os
import socket
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from mlcl.study import records
from mlcl.study.files import write_json
from mlcl.study.paths import CellId, StudyPaths

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


def look(study: str) -> Progress:
    """Reads the study's requests and records. A record counts if its request is not newer (see `plan`)."""
    paths = StudyPaths(study)
    planned = _cells(json.loads(paths.outline.read_text(encoding="utf-8")))
    seconds: dict[tuple[str, str], list[float]] = defaultdict(list)
    open_cells, running, failed = [], {}, 0
    for cell in planned:
        if _is_current(paths, cell):
            record = records.read_if_there(paths.record(cell))
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


def failures(study: str) -> list[tuple[CellId, records.Record]]:
    """The cells of a study whose record says that they failed."""
    paths = StudyPaths(study)
    outline = json.loads(paths.outline.read_text(encoding="utf-8"))
    found = ((cell, records.read_if_there(paths.record(cell))) for cell in _cells(outline))
    return [(cell, record) for cell, record in found if record is not None and record.status != "ok"]


def _cells(outline: dict[str, Any]) -> list[CellId]:
    return [CellId.parse(cell["id"]) for cell in outline["cells"]]
