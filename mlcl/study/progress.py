"""Progress of a training while it runs: lines in the log and, in a terminal, a progress bar."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from mlcl.training.events import EpochEnd, FeatureProgress, Resumed, StepProgress, TrainingEvent

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


REPORT_EVERY = 30.0
"""Seconds between two lines within an epoch."""


class ProgressDisplay:
    """Shows training events: as lines in `log`, and with a progress bar if that is a terminal.

    curve: a file that gets a line for each epoch, `epoch,loss,seconds_left`, for those who watch the study.
    """

    def __init__(self, log: TextIO, curve: Path | None = None) -> None:
        self._log, self._curve = log, curve
        self._last_line = time.monotonic()
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> ProgressDisplay:
        if self._log.isatty() and os.environ.get("TERM") != "dumb":
            from rich.console import Console
            from rich.progress import Progress

            self._bar = Progress(console=Console(file=self._log), transient=True)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def report(self, event: TrainingEvent) -> None:
        match event:
            case EpochEnd():
                self._note(event)
                self._say(_epoch_end(event))
            case Resumed():
                self._say(_resumed(event))
            case FeatureProgress():
                self._draw(event.rows, event.of_rows, f"frozen features, {event.split}")
                self._say_at_times(_feature_progress(event))
            case StepProgress():
                self._draw(
                    (event.epoch - 1) * event.steps_per_epoch + event.batches,
                    event.epochs * event.steps_per_epoch,
                    f"epoch {event.epoch} of {event.epochs}  loss {event.loss:.4f}  "
                    f"{event.examples_per_second:.0f} examples/s",
                )
                self._say_at_times(_step_progress(event))

    def _note(self, event: EpochEnd) -> None:
        if self._curve is not None:
            with contextlib.suppress(OSError), self._curve.open("a", encoding="utf-8") as file:
                file.write(f"{event.epoch},{event.loss!r},{event.seconds_left:.1f}\n")

    def _say(self, line: str) -> None:
        self._last_line = time.monotonic()
        if self._bar is not None:
            self._bar.console.print(line, highlight=False, markup=False)
        else:
            print(line, file=self._log, flush=True)

    def _say_at_times(self, line: str) -> None:
        """A line of work that goes on, every 30 seconds; a terminal has the bar."""
        if self._bar is None and time.monotonic() - self._last_line >= REPORT_EVERY:
            self._say(line)

    def _draw(self, completed: int, total: int, description: str) -> None:
        if self._bar is None:
            return
        if self._task is None:
            self._task = self._bar.add_task("")
        self._bar.update(self._task, total=total, completed=completed, description=description)


def _epoch_end(event: EpochEnd) -> str:
    validated = f"  val loss {event.val_loss:.4f}" if event.val_loss is not None else ""
    return (
        f"epoch {event.epoch:3d}  step {event.step:6d}  loss {event.loss:.4f}{validated}  {event.seconds:.1f} s  "
        f"{event.examples_per_second:.0f} examples/s  {event.seconds_left:.0f} s left"
    )


def _step_progress(event: StepProgress) -> str:
    return (
        f"epoch {event.epoch:3d}: {event.batches} of {event.steps_per_epoch} batches  loss {event.loss:.4f}  "
        f"{event.examples_per_second:.0f} examples/s  {event.epoch_seconds_left:.0f} s left in the epoch, "
        f"{event.seconds_left:.0f} s in all"
    )


def _feature_progress(event: FeatureProgress) -> str:
    return (
        f"features of the frozen encoder, computed once: {event.split}, {event.rows} of {event.of_rows} rows, "
        f"{event.seconds_left:.0f} s left"
    )


def _resumed(event: Resumed) -> str:
    if event.epoch > event.epochs:
        return "training was over before; the evaluation is made again"
    after = f", after {event.batches} of its batches" if event.batches else ""
    return f"a checkpoint was found: training goes on in epoch {event.epoch} of {event.epochs}{after}"
