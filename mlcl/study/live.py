"""What is seen of a training while it runs: lines in the log; in a terminal, a bar as well."""

from __future__ import annotations

import os
import time
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from mlcl.training.loop import EpochReport, News, Resumed, Underway

EVERY = 30.0
"""Seconds between two lines within an epoch."""


class Live:
    """To be told the news of a training. Lines go to `log`; a bar is drawn if that is a terminal."""

    def __init__(self, log: TextIO) -> None:
        self._log = log
        self._said = time.monotonic()
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Live:
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

    def tell(self, news: News) -> None:
        from mlcl.training.loop import EpochReport, Resumed

        match news:
            case EpochReport():
                self._say(_epoch(news))
            case Resumed():
                self._say(_resumed(news))
            case _:
                self._draw(news)
                if self._bar is None and time.monotonic() - self._said >= EVERY:
                    self._say(_underway(news))

    def _say(self, line: str) -> None:
        self._said = time.monotonic()
        if self._bar is not None:
            self._bar.console.print(line, highlight=False, markup=False)
        else:
            print(line, file=self._log, flush=True)

    def _draw(self, news: Underway) -> None:
        if self._bar is None:
            return
        if self._task is None:
            self._task = self._bar.add_task("")
        self._bar.update(
            self._task,
            total=news.epochs * news.steps_per_epoch,
            completed=(news.epoch - 1) * news.steps_per_epoch + news.batches,
            description=f"epoch {news.epoch} of {news.epochs}  loss {news.loss:.4f}  "
            f"{news.examples_per_second:.0f} examples/s",
        )


def _epoch(news: EpochReport) -> str:
    validated = f"  val loss {news.val_loss:.4f}" if news.val_loss is not None else ""
    return (
        f"epoch {news.epoch:3d}  step {news.step:6d}  loss {news.loss:.4f}{validated}  {news.seconds:.1f} s  "
        f"{news.examples_per_second:.0f} examples/s  {news.seconds_left:.0f} s left"
    )


def _underway(news: Underway) -> str:
    return (
        f"epoch {news.epoch:3d}: {news.batches} of {news.steps_per_epoch} batches  loss {news.loss:.4f}  "
        f"{news.examples_per_second:.0f} examples/s  {news.epoch_seconds_left:.0f} s left in the epoch, "
        f"{news.seconds_left:.0f} s in all"
    )


def _resumed(news: Resumed) -> str:
    if news.epoch > news.epochs:
        return "training was over before; the evaluation is made again"
    after = f", after {news.batches} of its batches" if news.batches else ""
    return f"a checkpoint was found: training goes on in epoch {news.epoch} of {news.epochs}{after}"
