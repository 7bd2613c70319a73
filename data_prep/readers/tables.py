"""Tables of the user's own: CSV, TSV, JSON Lines, Parquet, row by row."""

from __future__ import annotations

import csv
import json
import math
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from data_prep.errors import DataError, closest
from data_prep.readers.json_stream import unique_keys
from data_prep.readers.lines import DAMAGED, MAX_LINE, decoded_lines, lines

Row = dict[str, Any]
Quoting = Literal["", "minimal", "none"]
Lines = Iterator[tuple[str, str]]
DELIMITERS = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".txt": "\t"}
JSON_LINES = (".jsonl", ".ndjson")
KINDS = (*DELIMITERS, *JSON_LINES, ".parquet", ".zip")
MAX_CELL_LINES = 10_000
MAX_REMEMBERED = 1000  # cells of several lines that are kept for a closer look


@dataclass(frozen=True)
class LongCell:
    """A row of a quoted table that spans several lines: where it starts, its lines as they stand in the file."""

    where: str
    lines: tuple[str, ...]


@dataclass
class Counts:
    """What was read of a table. For text: lines = 1 (header) + rows + blank lines + lines within quoted cells."""

    lines: int = 0
    rows: int = 0
    blank_lines: int = 0
    lines_in_cells: int = 0
    quoted_cells_kept: int = 0
    """Cells of a table without quoting that stand in quotation marks: these are kept."""
    long_cells: list[LongCell] = field(default_factory=list)


class Table:
    """A table file. Its kind is told by its name; `.gz` may follow, and a zip may hold the one table.

    Args:
        delimiter: between cells; by default a comma in `.csv` and a tab in `.tsv`, `.tab` and `.txt`. With a
            delimiter a file of any other name is read, too.
        quoting: `minimal` (cells may be quoted; strict: a quotation mark that is not closed is an error) or `none`
            (quotation marks are ordinary characters). By default `none` where a tab delimits, else `minimal`.

    Attributes:
        counts: of the last complete pass of `rows`.
        header: the column names of delimited text, after its first line was read.

    Raises:
        DataError: a kind of file that is not known.
    """

    def __init__(self, path: Path, delimiter: str = "", quoting: Quoting = "") -> None:
        self.path = path
        self.kind = _kind(path)
        self._member = ""
        if self.kind == ".zip":
            self._member = _only_table(path)
            self.kind = PurePosixPath(self._member).suffix.lower()
        self.delimited = bool(delimiter) or self.kind in DELIMITERS
        self.delimiter = delimiter.replace("\\t", "\t") or DELIMITERS.get(self.kind, "")
        if not self.delimited and self.kind not in KINDS:
            raise DataError(
                f"{path}: unknown kind of table {self.kind!r}; valid are {', '.join(KINDS)} (.gz may follow), "
                "or set delimiter"
            )
        if self.delimited and (len(self.delimiter) != 1 or self.delimiter in '"\r\n'):
            raise DataError(f"{path}: delimiter {delimiter!r}: must be one character")
        if (delimiter or quoting) and self.kind in (*JSON_LINES, ".parquet"):
            raise DataError(f"{path}: delimiter and quoting are of delimited text, not of {self.kind}")
        self.quoting: Quoting = quoting or ("none" if self.delimiter == "\t" else "minimal")
        self.counts = Counts()
        self.header: list[str] = []

    def rows(self) -> Iterator[tuple[str, Row]]:
        """Each row as (where, {column: value}).

        Raises DataError for text that is not UTF-8, a row with another number of cells than the header, a
        quotation mark that is not closed, and JSON or Parquet that cannot be read.
        """
        self.counts = Counts()
        if self.kind == ".parquet":
            found = self._parquet()
        elif self.delimited:
            found = self._delimited()
        else:
            found = self._json_lines()
        for where, row in found:
            self.counts.rows += 1
            yield where, row

    @contextmanager
    def _text(self) -> Iterator[Lines]:
        if not self._member:
            yield self._counted(lines(self.path))
            return
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(self._member) as file:
                yield self._counted(decoded_lines(file, f"{self.path}:{self._member}"))
        except (*DAMAGED, RuntimeError) as error:  # RuntimeError: encrypted
            raise DataError(f"{self.path}: cannot be read as a zip ({error})") from None

    def _counted(self, source: Lines) -> Lines:
        for where, text in source:
            self.counts.lines += 1
            yield where, text

    def _delimited(self) -> Iterator[tuple[str, Row]]:
        header: list[str] | None = None
        with self._text() as text:
            for where, cells in self._quoted(text) if self.quoting == "minimal" else self._unquoted(text):
                if header is None:
                    self.header = header = self._header(cells, where)
                elif not cells:
                    self.counts.blank_lines += 1
                elif len(header) > 1 and [name.strip() for name in cells] == header:
                    raise DataError(
                        f"{where}: repeats the header; where files were put together, remove the later headers"
                    )
                elif len(cells) != len(header):
                    raise DataError(
                        f"{where}: {len(cells)} cells, the header has {len(header)}; {self._advice()}"
                    )
                else:
                    yield where, dict(zip(header, cells, strict=True))

    def _header(self, cells: list[str], where: str) -> list[str]:
        names = [name.strip() for name in cells]
        if names and re.fullmatch("sep=.?", names[0]) and not any(names[1:]):
            raise DataError(f"{where}: is a line for Excel, no header; remove it and set delimiter")
        if len(set(names)) < len(names):
            raise DataError(f"{where}: column names occur twice: {', '.join(names)}")
        if self.quoting == "none" and names and all(_in_quotes(name) for name in names):
            raise DataError(f"{where}: the column names stand in quotation marks; set quoting: minimal")
        if len(names) == 1:
            for other in ";\t|,":
                if other != self.delimiter and other in names[0]:
                    raise DataError(
                        f"{where}: the header {names[0]!r} is one cell; if {other!r} separates its columns, "
                        f"set delimiter: {json.dumps(other)}"
                    )
        return names

    def _advice(self) -> str:
        if self.quoting == "none":
            return "if cells are quoted, set quoting: minimal"
        return f"quote cells with {self.delimiter!r} in them"

    def _unquoted(self, text: Lines) -> Iterator[tuple[str, list[str]]]:
        for where, line in text:
            cells = line.split(self.delimiter) if line else []
            self.counts.quoted_cells_kept += sum(map(_in_quotes, cells)) if '"' in line else 0
            yield where, cells

    def _quoted(self, text: Lines) -> Iterator[tuple[str, list[str]]]:
        pending: list[tuple[str, str]] = []
        csv.field_size_limit(MAX_LINE)
        reader = csv.reader(self._fed(text, pending), delimiter=self.delimiter, strict=True)
        while True:
            pending.clear()
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise DataError(_unclosed(pending, str(error))) from None
            if len(pending) > 1:
                self.counts.lines_in_cells += len(pending) - 1
                if len(self.counts.long_cells) < MAX_REMEMBERED:
                    cell = LongCell(pending[0][0], tuple(line for _, line in pending))
                    self.counts.long_cells.append(cell)
            yield pending[0][0], cells

    def _fed(self, text: Lines, pending: list[tuple[str, str]]) -> Iterator[str]:
        size = 0
        for where, line in text:
            size = len(line) if not pending else size + len(line)
            pending.append((where, line))
            if len(pending) > MAX_CELL_LINES or size > MAX_LINE:
                raise DataError(_unclosed(pending, f"still open after {len(pending)} lines"))
            yield f"{line}\n"

    def _json_lines(self) -> Iterator[tuple[str, Row]]:
        with self._text() as text:
            for where, line in text:
                if not line.strip():
                    self.counts.blank_lines += 1
                    continue
                try:
                    row = json.loads(line, object_pairs_hook=unique_keys)
                except (ValueError, RecursionError) as error:
                    raise DataError(f"{where}: not valid JSON ({error})") from None
                if not isinstance(row, dict):
                    raise DataError(f"{where}: expected a JSON object for each line")
                yield where, row

    def _parquet(self) -> Iterator[tuple[str, Row]]:
        import pyarrow
        import pyarrow.parquet

        if self._member or self.path.suffix.lower() == ".gz":
            raise DataError(f"{self.path}: Parquet is compressed in itself; unpack the file")
        number = 0
        try:
            file = pyarrow.parquet.ParquetFile(self.path)
            names = file.schema_arrow.names
            if len(set(names)) < len(names):
                raise DataError(f"{self.path}: column names occur twice: {', '.join(names)}")
            for batch in file.iter_batches(batch_size=1000):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{self.path}:{number}", row
            self.counts.lines = int(file.metadata.num_rows)
        except (OSError, ValueError, OverflowError, MemoryError, pyarrow.ArrowException) as error:
            raise DataError(f"{self.path}: cannot be read as Parquet ({_first_line(error)})") from None
        if number != self.counts.lines:
            raise DataError(
                f"{self.path}: states {self.counts.lines} rows, {number} were read; it is damaged"
            )


def rows(path: Path, delimiter: str = "", quoting: Quoting = "") -> Iterator[tuple[str, Row]]:
    """The rows of a table file as (where, {column: value}); see `Table`."""
    return Table(path, delimiter, quoting).rows()


def cell(row: Row, column: str, where: str) -> Any:
    """A value by its column's name; raises DataError with the closest names."""
    if column not in row:
        raise DataError(f"{where}: there is no column {column!r}: {closest(column, row)}")
    return row[column]


def as_text(value: Any, where: str = "", column: str = "") -> str:
    """The text of a cell; empty where it is null or NaN. Raises DataError for a list, an object, or other bytes."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            raise DataError(f"{where}: column {column!r} holds bytes that are not UTF-8 text") from None
    if isinstance(value, list | dict | tuple):
        raise DataError(f"{where}: column {column!r} holds a {type(value).__name__}, not a text")
    return str(value)


def _kind(path: Path) -> str:
    return Path(path.name.removesuffix(".gz")).suffix.lower()


def _only_table(path: Path) -> str:
    """The one table in a zip file."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if not name.startswith("__MACOSX/")]
    except DAMAGED as error:
        raise DataError(f"{path}: cannot be read as a zip ({error}); fetch it again") from None
    tables = [
        name for name in names if PurePosixPath(name).suffix.lower() in KINDS and not name.endswith(".zip")
    ]
    if len(tables) != 1:
        listed = f": {', '.join(sorted(tables)[:5])}" if tables else ""
        raise DataError(f"{path}: must hold one table, holds {len(tables)}{listed}; unpack the one to read")
    return tables[0]


def _in_quotes(cell: str) -> bool:
    return len(cell) > 1 and cell[0] == cell[-1] == '"'


def _unclosed(pending: list[tuple[str, str]], reason: str) -> str:
    if not pending:
        return reason
    (where, start), (end, _) = pending[0], pending[-1]
    noticed = f" (noticed in line {end.rpartition(':')[2]}: {reason})" if len(pending) > 1 else f" ({reason})"
    shown = start if len(start) <= 40 else f"{start[:40]}..."
    if '"' not in start and "\r" in start:
        return f"{where}: a cell that is not quoted holds a carriage return (CR): {shown!r}; quote it or remove it"
    if '"' not in start:
        return f"{where}: cannot be read as delimited text{noticed}: {shown!r}"
    if where.endswith(":1") and (other := re.search(r'"([;\t|,])"', start)):
        return (
            f"{where}: the header cannot be read{noticed}: {shown!r}; if {other[1]!r} separates its columns, set "
            f"delimiter: {json.dumps(other[1])}"
        )
    return (
        f"{where}: a quotation mark is not closed properly{noticed}: {shown!r}; double quotation marks within quoted "
        "cells, or set quoting: none where cells are not quoted"
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
