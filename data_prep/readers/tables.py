"""Tables of the user's own: CSV, TSV, JSON Lines, Parquet, row by row."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_prep.errors import DataError, closest
from data_prep.readers.lines import lines

Row = dict[str, Any]
KINDS = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")


def rows(path: Path) -> Iterator[tuple[str, Row]]:
    """Each row as (where, {column: value}); the kind of file is told by its name, `.gz` may follow.

    Raises DataError for another kind, text that is not UTF-8, a row with another number of cells than the
    header, and JSON that cannot be read.
    """
    kind = Path(path.name.removesuffix(".gz")).suffix.lower()
    if kind in (".csv", ".tsv"):
        return _separated(path, "," if kind == ".csv" else "\t")
    if kind in (".jsonl", ".ndjson"):
        return _json_lines(path)
    if kind == ".parquet":
        return _parquet(path)
    raise DataError(f"{path}: unknown kind of table {kind!r}; valid are {', '.join(KINDS)} (.gz may follow)")


def cell(row: Row, column: str, where: str) -> Any:
    """A value by its column's name; raises DataError with the closest names."""
    if column not in row:
        raise DataError(f"{where}: there is no column {column!r}: {closest(column, row)}")
    return row[column]


def _separated(path: Path, separator: str) -> Iterator[tuple[str, Row]]:
    csv.field_size_limit(sys.maxsize)
    reader = csv.reader((f"{text}\n" for _, text in lines(path)), delimiter=separator, strict=False)
    header: list[str] | None = None
    try:
        for cells in reader:
            where = f"{path}:{reader.line_num}"
            if header is None:
                header = [name.strip().removeprefix("\ufeff") for name in cells]
                if len(set(header)) < len(header):
                    raise DataError(f"{where}: column names occur twice: {', '.join(header)}")
            elif cells:
                if len(cells) != len(header):
                    raise DataError(
                        f"{where}: {len(cells)} cells, the header has {len(header)}; quote cells with {separator!r}"
                    )
                yield where, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: {error}") from None


def _json_lines(path: Path) -> Iterator[tuple[str, Row]]:
    for where, line in lines(path):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{where}: not valid JSON ({error})") from None
        if not isinstance(row, dict):
            raise DataError(f"{where}: expected a JSON object for each line")
        yield where, row


def _parquet(path: Path) -> Iterator[tuple[str, Row]]:
    import pyarrow
    import pyarrow.parquet

    try:
        number = 0
        for batch in pyarrow.parquet.ParquetFile(path).iter_batches(batch_size=1000):
            for row in batch.to_pylist():
                yield f"{path}:{(number := number + 1)}", row
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{path}: cannot be read as Parquet ({error})") from None
