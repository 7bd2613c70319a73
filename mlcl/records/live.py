"""A study while it runs: what is done, what runs and how its training goes, what failed; as text and as a small page.

A look reads only the records that changed since the look before.
"""

from __future__ import annotations

import csv
import html
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from mlcl.records.files import write_text
from mlcl.records.outline import OpenStudy
from mlcl.records.paths import CellId
from mlcl.records.record import Found, Record, find_record
from mlcl.records.running import running_since
from mlcl.records.status import CellStatus, StudyStatus, duration, kind_of_cell, study_status

PROGRESS = "progress.csv"
"""In the folder of a cell's unfinished work: a line for each epoch, `epoch,loss,seconds_left`."""
RATE_SECONDS = 1800.0
"""The rate is that of the cells that ended so recently."""
MOST_SHOWN = 12
"""Cells of each kind in text; the page shows four times as many."""
SLOW = 2.0
"""A cell is slow that takes so many times the median of its dataset and encoder."""
WIDTH, HEIGHT = 220, 60


@dataclass(frozen=True)
class RunningCell:
    """A cell that is being made: since when, the loss of each epoch so far, and how long training will still take."""

    cell: CellId
    seconds: float
    losses: Sequence[float]
    seconds_left: float | None


@dataclass(frozen=True)
class Look:
    """A study at one moment."""

    status: StudyStatus
    file: str
    """The study's file."""
    at: datetime
    running: Sequence[RunningCell]
    per_hour: float | None
    """Cells that ended in the last half hour, scaled; None if there was none."""
    slowest: Sequence[tuple[CellId, float, float]]
    """Cells that took far longer than others of their dataset and encoder: seconds, and how many times the median."""

    @property
    def waiting(self) -> int:
        """Cells to be made that nobody makes yet."""
        return max(0, self.status.counts.to_make - len(self.running))

    @property
    def done(self) -> int:
        return self.status.counts.total - self.status.counts.to_make

    @property
    def retry(self) -> str:
        """The command that makes failed cells again."""
        return f"snakemake retry_failed --cores all --config study={self.file}"

    def facts(self) -> list[tuple[str, str]]:
        counts = self.status.counts
        facts = [
            ("done", f"{self.done} of {counts.total} ({100 * self.done / max(1, counts.total):.0f} %)"),
            ("running", str(len(self.running))),
            ("failed", str(counts.failed)),
            ("waiting", str(self.waiting)),
        ]
        if self.per_hour is not None:
            facts.append(("rate", f"{self.per_hour:.0f} cells an hour"))
        if counts.to_make and self.status.seconds_left is not None:
            facts.append(("left", f"about {duration(self.status.seconds_left)}, by the cells that are done"))
        return facts

    def render(self) -> str:
        """As text, some thirty lines."""
        lines = [f"study {self.status.study}, {self.at:%H:%M:%S}"]
        lines += [f"  {name:<8} {value}" for name, value in self.facts()]
        for cell in self.running[:MOST_SHOWN]:
            left = f", training {duration(cell.seconds_left)} left" if cell.seconds_left is not None else ""
            loss = f", epoch {len(cell.losses)}, loss {cell.losses[-1]:.4f}" if cell.losses else ""
            lines.append(f"  runs     {cell.cell}: {duration(cell.seconds)}{loss}{left}")
        failures = self.status.failures
        for failed, record in failures[:MOST_SHOWN]:
            lines.append(f"  failed   {failed}: {record.status}: {_shortened(record.reason)}")
        if len(failures) > MOST_SHOWN:
            lines.append(f"  failed   ... and {len(failures) - MOST_SHOWN} more")
        if failures:
            lines.append(f"  again    {self.retry}")
        lines += [f"  damaged  {damage}" for _, damage in self.status.damaged[:MOST_SHOWN]]
        lines += [
            f"  slow     {cell}: {duration(seconds)}, {times:.1f} times the median"
            for cell, seconds, times in self.slowest[:3]
        ]
        return "\n".join(lines)


class Watcher:
    """Looks at a study again and again."""

    def __init__(self, study: OpenStudy) -> None:
        self._study = study
        self._seen: dict[Path, tuple[tuple[int, int, int], Found]] = {}

    def look(self) -> Look:
        """Raises RecordError for a record of a later version of mlcl."""
        outline, paths = self._study
        status = study_status(self._study, self._find)
        now = time.time()
        running = [
            RunningCell(
                cell,
                now - (running_since(paths.unfinished(cell)) or now),
                *read_progress(paths.unfinished(cell)),
            )
            for cell in status.running
        ]
        return Look(
            status,
            outline.file,
            datetime.now(),
            running,
            _per_hour(status.cells, now),
            _slowest(status.cells),
        )

    def _find(self, path: Path, cell: CellId | None = None) -> Found:
        """As `find_record`; a file that did not change since is not read again."""
        try:
            state = path.stat()
        except FileNotFoundError:
            return Found(None)
        key = (state.st_mtime_ns, state.st_size, state.st_ino)
        if path not in self._seen or self._seen[path][0] != key:
            self._seen[path] = (key, find_record(path, cell))
        return self._seen[path][1]


def read_progress(unfinished: Path) -> tuple[list[float], float | None]:
    """The loss of each epoch so far, and the seconds of training that are left; nothing while there is no line."""
    losses: dict[int, float] = {}
    left = None
    try:
        with (unfinished / PROGRESS).open(newline="", encoding="utf-8") as lines:
            for epoch, loss, seconds_left in csv.reader(lines):
                losses[int(epoch)], left = float(loss), float(seconds_left)
    except (OSError, ValueError):  # none yet, or a line that is being written
        pass
    return [losses[epoch] for epoch in sorted(losses)], left


def write_page(look: Look, file: Path, every: float) -> None:
    """A page without scripts that a browser loads again after so many seconds."""
    most = 4 * MOST_SHOWN
    e = html.escape
    done = 100 * look.done / max(1, look.status.counts.total)
    facts = "".join(f"<dt>{e(name)}</dt><dd>{e(value)}</dd>" for name, value in look.facts())
    running = "".join(_running_row(cell) for cell in look.running[:most])
    failed = "".join(
        f"<tr><th scope=row>{e(str(cell))}</th><td>{e(record.status)}</td><td>{e(_shortened(record.reason))}</td></tr>"
        for cell, record in look.status.failures[:most]
    )
    slow = "".join(
        f"<tr><th scope=row>{e(str(cell))}</th><td>{e(duration(seconds))}</td>"
        f"<td>{times:.1f} times the median</td></tr>"
        for cell, seconds, times in look.slowest[:most]
    )
    parts = [
        _section("Running", running, "Cell", "For", "Training loss by epoch", "Training left"),
        _section("Failed", failed, "Cell", "State", "Reason"),
        f"<p>To make failed cells again: <code>{e(look.retry)}</code></p>" if failed else "",
        _section("Slower than others of their dataset and encoder", slow, "Cell", "Took", ""),
    ]
    write_text(
        file,
        f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="{every:.0f}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{done:.0f} % of {e(look.status.study)}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 1.5rem auto; max-width: 70rem; padding: 0 1rem; }}
dl {{ display: flex; flex-wrap: wrap; gap: .3rem 2rem; }} dt {{ color: #555; }} dd {{ margin: 0; font-weight: 600; }}
progress {{ width: 100%; height: 1.2rem; }} .scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; }} th, td {{ text-align: left; padding: .2rem .8rem .2rem 0; font-weight: 400; }}
thead th {{ color: #555; }} polyline {{ fill: none; stroke: #0072b2; stroke-width: 1.5; }}
@media (prefers-color-scheme: dark) {{ body {{ background: #111; color: #eee; }} dt, thead th {{ color: #aaa; }}
polyline {{ stroke: #56b4e9; }} }}
</style></head><body>
<h1>{e(look.status.study)}</h1>
<p>As of {look.at:%Y-%m-%d %H:%M:%S}; this page loads itself again every {every:.0f} seconds.</p>
<progress value="{done:.1f}" max="100" aria-label="Cells that are done">{done:.0f} %</progress>
<dl>{facts}</dl>
{"".join(parts)}
</body></html>
""",
        durable=False,
    )


def _section(title: str, rows: str, *heads: str) -> str:
    if not rows:
        return ""
    head = "".join(f"<th scope=col>{html.escape(name)}</th>" for name in heads)
    return (
        f"<h2>{html.escape(title)}</h2><div class=scroll><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )


def _running_row(cell: RunningCell) -> str:
    left = duration(cell.seconds_left) if cell.seconds_left is not None else ""
    return (
        f"<tr><th scope=row>{html.escape(str(cell.cell))}</th><td>{duration(cell.seconds)}</td>"
        f"<td>{_curve(cell.losses)}</td><td>{left}</td></tr>"
    )


def _curve(losses: Sequence[float]) -> str:
    """A line plot, with its ends in words."""
    finite = [loss for loss in losses if loss - loss == 0]
    if not finite:
        return ""
    low, step = min(finite), WIDTH / max(1, len(finite) - 1)
    scale = (HEIGHT - 8) / ((max(finite) - low) or 1)
    points = " ".join(
        f"{k * step:.1f},{HEIGHT - 4 - (loss - low) * scale:.1f}" for k, loss in enumerate(finite)
    )
    words = f"{finite[0]:.3g} to {finite[-1]:.3g} in {len(losses)} epochs"
    return (
        f'<svg width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="{words}"><polyline points="{points}"/></svg>'
        f"<br><small>{words}</small>"
    )


def _per_hour(cells: Sequence[CellStatus], now: float) -> float | None:
    ages = [now - ended for one in cells if (ended := _ended(one.counted_record)) is not None]
    recent = [age for age in ages if 0 <= age <= RATE_SECONDS]
    return 3600 * len(recent) / max(60.0, min(RATE_SECONDS, max(ages))) if recent else None


def _ended(record: Record | None) -> float | None:
    try:
        text = str(record.run["finished"]) if record is not None else ""
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()
    except (ValueError, KeyError):
        return None


def _slowest(cells: Sequence[CellStatus]) -> list[tuple[CellId, float, float]]:
    by_kind: dict[tuple[str, str], list[tuple[CellId, float]]] = {}
    for one in cells:
        if (record := one.counted_record) is not None and record.status == "ok":
            by_kind.setdefault(kind_of_cell(one.cell.id), []).append(
                (one.cell.id, record.run["wall_seconds"])
            )
    slow = []
    for same in by_kind.values():
        usual = median(seconds for _, seconds in same)
        slow += [
            (cell, seconds, seconds / usual) for cell, seconds in same if usual and seconds > SLOW * usual
        ]
    return sorted(slow, key=lambda one: -one[2])


def _shortened(reason: str | None, most: int = 300) -> str:
    text = " ".join((reason or "").split())
    return text if len(text) <= most else text[: most - 3] + "..."
