"""`mlcl predict`: a user's file of texts, vectors or images, read row by row, scored, and written as a CSV file.

The CSV file has the row's id, a score for each label, and the labels whose score lies above their threshold.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast, get_args

import numpy as np

from data_prep.readers.arrays import UNREADABLE, is_numeric_matrix
from data_prep.readers.labels import LONE_SURROGATE
from data_prep.readers.lines import lines
from data_prep.readers.numbers import finite
from data_prep.readers.tables import KINDS, Quoting, Table, as_text
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
    remarks: list[str] = field(default_factory=list)
    """What the user should know of the file, once all rows were read."""


@dataclass(frozen=True)
class TableForm:
    """How a table is read.

    Attributes:
        column: the one that holds the text.
        id_column: the one that holds row ids; empty: `id` where there is such a column, else rows are numbered from 1.
        delimiter, quoting: as for `data_prep.readers.tables.Table`.
    """

    column: str = "text"
    id_column: str = ""
    delimiter: str = ""
    quoting: Quoting = ""

    @property
    def id_name(self) -> str:
        """The name of the id column, whether or not the table has it."""
        return self.id_column or ID


def open_rows(path: Path, modality: Modality, form: TableForm | None = None) -> Source:
    """Rows of a file (of a folder, for images) in the form that a model of this modality takes.

    Rows without an id column have their number, from 1, for an id, and images their name. Raises ModelError for a
    file of another kind, and, as does `data_prep.DataError`, with file and row for one that cannot be read.
    """
    form = form or TableForm()
    if not path.exists():
        raise ModelError(f"{path}: there is no such file")
    kind = Path(path.name.removesuffix(".gz")).suffix.lower()
    if modality == "image" and (path.is_dir() or kind in IMAGES):
        return _images(path)
    if path.is_file():
        if modality == "text" and kind == ".txt":
            return Source(Row(str(n), place, text) for n, (place, text) in enumerate(lines(path), start=1))
        if modality == "text" and kind in KINDS:
            return _of_table(path, form, _texts)
        if modality == "vector" and path.suffix.lower() == ".npy":
            return _array(path)
        if modality == "vector" and kind in KINDS:
            return _of_table(path, form, _vectors)
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


def _of_table(path: Path, form: TableForm, reader: Callable[[Table, TableForm], Iterator[Row]]) -> Source:
    """The rows of a table; remarks tell how many lines and rows there were, where these numbers do not match."""
    table = Table(path, form.delimiter, form.quoting)
    remarks: list[str] = []

    def rows() -> Iterator[Row]:
        yield from reader(table, form)
        counts = table.counts
        if counts.lines_in_cells:
            first = counts.long_cells[0].where
            remarks.append(
                f"{path}: {counts.lines} lines are {counts.rows} rows: {len(counts.long_cells)} quoted cells span "
                f"several lines, the first in {first}; where that is not meant, use --quoting none"
            )
        if counts.blank_lines:
            remarks.append(f"{path}: {counts.blank_lines} blank lines are no rows")

    return Source(rows(), remarks=remarks)


def _texts(table: Table, form: TableForm) -> Iterator[Row]:
    for number, (place, row) in enumerate(table.rows(), start=1):
        if form.column not in row:
            raise ModelError(
                f"{place}: there is no column '{form.column}': {closest(form.column, row)} (--column names it)"
            )
        if isinstance(row[form.column], dict | list):
            raise ModelError(f"{place}: column '{form.column}' holds no text")
        text = as_text(row[form.column], place, form.column)
        # Half a character, as JSON has it where a text was cut within an emoji, is U+FFFD as in prepared datasets.
        yield Row(_id(row, number, form, place), place, LONE_SURROGATE.sub("\ufffd", text))


def _vectors(table: Table, form: TableForm) -> Iterator[Row]:
    """All columns but the id, in the order of the first row; or one column `vector` with a list of numbers."""
    columns: list[str] | None = None
    for number, (place, row) in enumerate(table.rows(), start=1):
        if columns is None:
            columns = [name for name in row if name != form.id_name]
            if columns and all(finite(name) is not None for name in columns):
                raise ModelError(f"{table.path}: the first line must name the columns, and holds numbers")
        if different := {name for name in row if name != form.id_name} ^ set(columns):
            raise ModelError(f"{place}: column '{min(different)}' is not in every row")
        row_id = _id(row, number, form, place)
        if columns == ["vector"]:
            yield Row(row_id, place, _listed(row["vector"], place))
        else:
            values = [_number(row[name], name, place) for name in columns]
            yield Row(row_id, place, np.array(values, dtype=np.float32))


def _listed(value: Any, place: str) -> Any:
    """A list, as JSON Lines have it, or its JSON in a cell."""
    try:
        entries = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        entries = None
    if not isinstance(entries, list):
        raise ModelError(f"{place}: column 'vector' must be a list of numbers, such as [0.5, 1]")
    return [_number(entry, "vector", place) for entry in entries]


def _number(value: Any, column: str, place: str) -> float:
    number = None
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        number = finite(str(value))
    if number is None:
        raise ModelError(f"{place}: column '{column}' is {str(value)[:40]!r}, expected a finite number")
    return number


def _array(path: Path) -> Source:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except UNREADABLE as error:
        raise ModelError(f"{path}: is no readable .npy file ({str(error)[:200]})") from None
    if not is_numeric_matrix(array):
        raise ModelError(f"{path}: expected numbers of the form (rows, columns), got {_form(array)}")
    return Source(_array_rows(array, path), len(array))


def _array_rows(array: np.ndarray, path: Path) -> Iterator[Row]:
    for number, row in enumerate(array, start=1):
        if not np.isfinite(row).all():
            column = int(np.flatnonzero(~np.isfinite(row))[0])
            raise ModelError(
                f"{path}: row {number}, column {column} (from 0) is {row[column]}, expected a finite number"
            )
        yield Row(str(number), f"{path}: row {number}", row)


def _form(array: Any) -> str:
    return f"{array.dtype} of the form {array.shape}" if isinstance(array, np.ndarray) else "something else"


def _id(row: dict[str, Any], number: int, form: TableForm, place: str) -> str:
    if form.id_column and form.id_column not in row:
        raise ModelError(f"{place}: there is no column '{form.id_column}': {closest(form.id_column, row)}")
    row_id = as_text(row.get(form.id_name), place, form.id_name).strip()
    if form.id_column and not row_id:
        raise ModelError(f"{place}: the id (column '{form.id_column}') is missing")
    return row_id or str(number)


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


def parse_quoting(text: str) -> Quoting:
    """`minimal`, `none`, or nothing. Raises ModelError for anything else."""
    for known in get_args(Quoting):
        if text == known:
            return cast("Quoting", known)
    raise ModelError(f"quoting '{text}': valid are minimal, none")


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
