"""`mlcl predict`: a user's file of texts, vectors or images, read row by row, scored, and written as a CSV file.

The CSV file has the row's id, a score for each label, and the labels whose score lies above their threshold.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from data_prep.readers.lines import lines
from data_prep.readers.tables import KINDS, rows
from mlcl.encoders.catalog import Modality
from mlcl.model.config import ModelError
from mlcl.model.model import BATCH_SIZE, Model
from mlcl.suggest import closest

SEPARATOR = ";"
ID, LABELS = "id", "labels"
IMAGES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
TAKES = {
    "text": f".txt with a text in each line, or a table ({', '.join(KINDS)})",
    "vector": f".npy, or a table of numbers ({', '.join(KINDS)})",
    "image": "an image, or a folder of images",
}


# --- Reading -------------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """An input, its id in the predictions, and the place that messages name."""

    row_id: str
    place: str
    content: Any


@dataclass(frozen=True)
class Source:
    """The rows of a file in order; `total` is their number, None where it takes reading all to know it."""

    rows: Iterator[Row]
    total: int | None = None
    left_out: int = 0
    """Files of a folder that are no images."""


def open_rows(path: Path, modality: Modality, column: str = "text") -> Source:
    """Rows of a file (of a folder, for images) in the form that a model of this modality takes.

    `column`: which column of a table holds the text. Tables may have a column `id`; other rows have their number,
    from 1, for an id, and images their name. Raises ModelError for a file of another kind, and, as does
    `data_prep.DataError`, with file and row for one that cannot be read.
    """
    if not path.exists():
        raise ModelError(f"{path}: there is no such file")
    kind = Path(path.name.removesuffix(".gz")).suffix.lower()
    if modality == "image" and (path.is_dir() or kind in IMAGES):
        return _images(path)
    if path.is_file():
        if modality == "text" and kind == ".txt":
            return Source(Row(str(n), place, text) for n, (place, text) in enumerate(lines(path), start=1))
        if modality == "text" and kind in KINDS:
            return Source(_texts(path, column))
        if modality == "vector" and path.suffix.lower() == ".npy":
            return _array(path)
        if modality == "vector" and kind in KINDS:
            return Source(_vectors(path))
    raise ModelError(f"{path}: the model takes {modality}s: {TAKES[modality]}")


def _images(path: Path) -> Source:
    if path.is_file():
        return Source(iter([Row(path.name, str(path), path)]), 1)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    images = [file for file in files if file.suffix.lower() in IMAGES]
    if not images:
        raise ModelError(f"{path}: holds no images ({', '.join(IMAGES)})")
    image_rows = (Row(file.relative_to(path).as_posix(), str(file), file) for file in images)
    return Source(image_rows, len(images), len(files) - len(images))


def _texts(path: Path, column: str) -> Iterator[Row]:
    for number, (place, row) in enumerate(rows(path), start=1):
        if column not in row:
            raise ModelError(
                f"{place}: there is no column '{column}': {closest(column, row)} (--column names it)"
            )
        text = row[column]
        if isinstance(text, dict | list):
            raise ModelError(f"{place}: column '{column}' holds no text")
        yield Row(_id(row, number), place, "" if text is None else str(text))


def _vectors(path: Path) -> Iterator[Row]:
    """All columns but `id`, in the order of the first row; or one column `vector` with a list of numbers."""
    columns: list[str] | None = None
    for number, (place, row) in enumerate(rows(path), start=1):
        if columns is None:
            columns = [name for name in row if name != "id"]
            if columns and all(map(_is_number, columns)):
                raise ModelError(f"{path}: the first line must name the columns, and holds numbers")
        if different := {name for name in row if name != "id"} ^ set(columns):
            raise ModelError(f"{place}: column '{min(different)}' is not in every row")
        if columns == ["vector"]:
            yield Row(_id(row, number), place, _listed(row["vector"], place))
        else:
            values = [_number(row[name], name, place) for name in columns]
            yield Row(_id(row, number), place, np.array(values, dtype=np.float32))


def _listed(value: Any, place: str) -> Any:
    """A list, as JSON Lines have it, or its JSON in a cell."""
    try:
        entries = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        entries = None
    if not isinstance(entries, list):
        raise ModelError(f"{place}: column 'vector' must be a list of numbers, such as [0.5, 1]")
    return [_number(entry, "vector", place) for entry in entries]


def _number(value: Any, column: str, place: str) -> float:
    if isinstance(value, str | int | float) and not isinstance(value, bool) and _is_number(value):
        return float(value)
    raise ModelError(f"{place}: column '{column}' is {value!r}, expected a number")


def _is_number(value: str | float) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def _array(path: Path) -> Source:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ModelError(f"{path}: is no readable .npy file ({error})") from None
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind not in "fiub":
        raise ModelError(f"{path}: expected numbers of the form (rows, columns), got {_form(array)}")
    numbered = (Row(str(n), f"{path}: row {n}", row) for n, row in enumerate(array, start=1))
    return Source(numbered, len(array))


def _form(array: Any) -> str:
    return f"{array.dtype} of the form {array.shape}" if isinstance(array, np.ndarray) else "something else"


def _id(row: dict[str, Any], number: int) -> str:
    return str(row["id"]) if row.get("id") is not None else str(number)


# --- Scoring and writing -------------------------------------------------------------------------------------


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
        for batch in _with_progress(source, batch_size):
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


def _with_progress(source: Source, batch_size: int) -> Iterator[list[Row]]:
    """Batches of rows, with a progress bar where standard error is a terminal."""
    batches = _in_batches(source.rows, batch_size)
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


def _in_batches(source: Iterable[Row], size: int) -> Iterator[list[Row]]:
    rows_left = iter(source)
    while batch := list(islice(rows_left, size)):
        yield batch
