"""Text files line by line, with errors that name file and line."""

import gzip
from collections.abc import Iterator
from pathlib import Path

from data_prep.checksums import is_gzip
from data_prep.errors import DataError


def lines(path: Path) -> Iterator[tuple[str, str]]:
    """Each line as (where, text): `where` is `file:line`, the text has no line end (LF or CRLF).

    Reads plain and gzipped files. Lines end at LF only: other separators of Unicode belong to the text. Raises
    DataError for bytes that are not UTF-8 and for a damaged gzip.
    """
    packed = is_gzip(path)
    try:
        with gzip.open(path) if packed else path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                where = f"{path}:{number}"
                yield where, _decoded(line, where).removesuffix("\n").removesuffix("\r")
    except (OSError, EOFError) as error:
        raise DataError(f"{path}: cannot be read ({error}); fetch it again") from None


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
