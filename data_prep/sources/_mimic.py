"""What mimic3 and mimic4 share: texts of an admission spooled to disk, ICD codes, cleaning as in CAML."""

from __future__ import annotations

import csv
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from data_prep.errors import DataError
from data_prep.readers.lines import lines

TOKEN = re.compile(r"\w+")


def caml_words(text: str) -> str:
    """Lower-case words without those that are numbers only, as CAML (Mullenbach et al. 2018) prepares notes."""
    return " ".join(word for word in TOKEN.findall(text.lower()) if not word.isnumeric())


def table(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[str, list[str]]]:
    """Chosen columns of a CSV with a header (any case), as (where, values); cells may hold line breaks."""
    csv.field_size_limit(sys.maxsize)
    reader = csv.reader(f"{text}\n" for _, text in lines(path))
    header = [name.lower() for name in next(reader, [])]
    missing = [column for column in columns if column not in header]
    if missing:
        raise DataError(f"{path}:1: lacks the columns {', '.join(missing)}")
    places = [header.index(column) for column in columns]
    for row in reader:
        if len(row) != len(header):
            raise DataError(f"{path}:{reader.line_num}: {len(row)} cells, the header has {len(header)}")
        yield f"{path}:{reader.line_num}", [row[place] for place in places]


def dotted(code: str, procedure: bool, version: int) -> str:
    """An ICD code as it is usually written: MIMIC leaves the dots out."""
    code = code.strip()
    if version == 10:
        return code if procedure or len(code) <= 3 else f"{code[:3]}.{code[3:]}"
    first = 2 if procedure else 4 if code.startswith("E") else 3
    return code if len(code) <= first else f"{code[:first]}.{code[first:]}"


class Spool:
    """Texts by admission, on disk: all discharge notes together do not fit into a few hundred MB."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the spool)
        self._pieces: dict[str, list[tuple[int, int]]] = {}

    def add(self, admission: str, text: str) -> None:
        """One more note of an admission."""
        content = text.encode("utf-8")
        self._pieces.setdefault(admission, []).append((self._file.seek(0, 2), len(content)))
        self._file.write(content)

    def __contains__(self, admission: str) -> bool:
        return admission in self._pieces

    def text(self, admission: str) -> str:
        """All notes of an admission, in the order they came."""
        parts = []
        for start, length in self._pieces[admission]:
            self._file.seek(start)
            parts.append(self._file.read(length).decode("utf-8"))
        return " ".join(parts)

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
