"""Predictions as a CSV file: id, a score for each label, and the labels whose score lies above their threshold."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from mlcl.model.config import ModelError
from mlcl.model.model import BATCH_SIZE, Model
from mlcl.model.rows import Row, Source, in_batches

SEPARATOR = ";"
ID, LABELS = "id", "labels"


def parse_threshold(text: str) -> float | Literal["tuned"]:
    """`tuned`, or a number from 0 to 1. Raises ModelError for anything else."""
    if text == "tuned":
        return "tuned"
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ModelError(f"threshold '{text}': valid are tuned, or a number from 0 to 1")
    return value


def write_predictions(
    model: Model,
    source: Source,
    out: Path,
    threshold: float | Literal["tuned"] = "tuned",
    batch_size: int = BATCH_SIZE,
) -> int:
    """Scores the rows batch by batch and writes them to `out`; returns how many there were.

    Raises ModelError for a source without rows, and as `Model.score` does.
    """
    if batch_size < 1:
        raise ModelError(f"batch size {batch_size}: at least 1")
    limits, count = model.thresholds(threshold), 0
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([ID, *columns(model.labels), LABELS])
        for batch in _watched(source, batch_size):
            scores = model.score([row.content for row in batch], [row.place for row in batch])
            for row, values, chosen in zip(batch, scores, scores > limits, strict=True):
                named = [label for label, above in zip(model.labels, chosen, strict=True) if above]
                writer.writerow([row.row_id, *(f"{value:.7g}" for value in values), SEPARATOR.join(named)])
            count += len(batch)
    if count == 0:
        raise ModelError("there are no rows to score")
    return count


def columns(labels: list[str]) -> list[str]:
    """The names of the columns of scores: the labels' own, but for those that other columns have."""
    return [f"{label} (label)" if label in (ID, LABELS) else label for label in labels]


def _watched(source: Source, batch_size: int) -> Iterator[list[Row]]:
    """Batches, with progress on a terminal."""
    batches = in_batches(source.rows, batch_size)
    if not sys.stderr.isatty():
        yield from batches
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

    parts = (
        "{task.description}",
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*parts, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("predicting", total=source.total)
        for batch in batches:
            yield batch
            progress.advance(task, len(batch))
