"""Text files line by line: the one reader of text for all sources. Errors name file and line."""

import codecs
import gzip
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from data_prep.checksums import is_gzip
from data_prep.errors import DataError

MAX_LINE = 1 << 26
"""Bytes of a line. A longer one is a decompression bomb or a file of another kind."""
DAMAGED = (OSError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError)
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def lines(path: Path) -> Iterator[tuple[str, str]]:
    """Each line of a UTF-8 file as (where, text): `where` is `file:line`, the text has no line end (LF or CRLF).

    Reads plain and gzipped files, with or without byte order marks. Lines end at LF only: other separators of
    Unicode belong to the text.

    Raises:
        DataError: bytes that are not UTF-8, lines that end with CR alone, a damaged gzip, or a line of more than
            `MAX_LINE` bytes.
    """
    with opened(path) as file:
        yield from decoded_lines(file, str(path))


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """A plain or gzipped file as a stream of bytes. Raises DataError where it cannot be read, also while reading."""
    try:
        with gzip.open(path) if is_gzip(path) else path.open("rb") as file:
            yield cast("IO[bytes]", file)
    except DAMAGED as error:
        raise DataError(f"{path}: cannot be read ({error}); fetch it again") from None


def decoded_lines(file: IO[bytes], where: str) -> Iterator[tuple[str, str]]:
    """`lines` of an open stream; `where` names it."""
    number = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        place = f"{where}:{number}"
        if len(line) > MAX_LINE:
            raise DataError(f"{place}: the line is longer than {MAX_LINE} bytes; this is no file of rows")
        if number == 1 and b"\r" in line.rstrip(b"\r\n") and not line.endswith(b"\n"):
            raise DataError(f"{where}: its lines end with CR alone; convert its line ends to LF")
        # Where files were put together, those of the later ones stand at the start of other lines.
        line = without_bom(line, where) if number == 1 else _without_marks(line)
        yield place, _decoded(line, place).removesuffix("\n").removesuffix("\r")


def without_bom(start: bytes, where: str) -> bytes:
    """The first bytes of a text file without byte order marks. Raises DataError for UTF-16, with or without a mark."""
    if start.startswith(UTF_16) or b"\0" in start[:2]:
        raise DataError(f"{where}: is UTF-16 text (or no text); convert the file to UTF-8")
    return _without_marks(start)


def _without_marks(line: bytes) -> bytes:
    while line.startswith(codecs.BOM_UTF8):
        line = line.removeprefix(codecs.BOM_UTF8)
    return line


def _decoded(line: bytes, where: str) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{where}: not UTF-8 (byte {error.start + 1} of the line); convert the file to UTF-8"
        ) from None


def tab_separated(path: Path, columns: int) -> Iterator[tuple[str, list[str]]]:
    """Rows of a TSV file without quoting, as (where, cells); raises DataError for another number of cells."""
    for where, line in lines(path):
        cells = line.split("\t")
        if len(cells) != columns:
            raise DataError(f"{where}: {len(cells)} tab-separated cells, expected {columns}")
        yield where, cells
