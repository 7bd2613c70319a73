"""The user's own vectors in the extreme-classification form: `labels feature:value feature:value ...`.

Form as in the Extreme Classification Repository (manikvarma.org/downloads/XC/XMLRepository.html): a first line
`rows features labels`, then for each row label numbers joined by commas (maybe none) and pairs, from 0. The
first line may be missing, as scikit-learn writes it; sizes are then found by reading.

A blank line is a row without labels and features, except at the end of the file: there a first line decides by its
number of rows, and without one only a line that holds a space (as scikit-learn writes it) is a row. Lines of comment
(`# ...`) are no rows.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pydantic import Field

from data_prep.errors import DataError
from data_prep.readers.labels import (
    INVISIBLE,
    defect,
    looks_like_a_list,
    looks_missing,
    normal_form,
    shown,
)
from data_prep.readers.lines import lines
from data_prep.readers.numbers import finite
from data_prep.source import RawPaths, Source
from data_prep.sources._own import OwnSettings, final_splits, own_about, own_files, parts, splits_in_file

if TYPE_CHECKING:
    import numpy as np

    from data_prep.writer import DatasetWriter

MAX_COLUMNS = 20_000  # stored densely: 80 kB a row
MAX_LABELS = 100_000  # unless settings, names or the first line say that there are more
MAX_STATED_LABELS = 4_000_000
WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
HEADING = re.compile(
    r"#.*|(\W*\b(id|index|number|no|key|code|label|labels|name|names|class|classes|category|categories|tag|tags)\b\W*)+",
    re.IGNORECASE,
)
"""A first line of label_names that names no label."""


class SvmlightSettings(OwnSettings):
    """Where the files are, and how their numbers are read."""

    path: str = Field(description="the file; its training rows where test_path is given")
    test_path: str = Field(default="", description="a file of test rows")
    val_path: str = Field(default="", description="a file of validation rows")
    split_path: str = Field(
        default="", description="a text file with train, val or test for each row of path"
    )
    label_names: str = Field(default="", description="a text file with a label name in each line")
    zero_based: bool = Field(
        default=True, description="whether label and feature numbers start at 0, else at 1"
    )
    max_labels: int = Field(
        default=0,
        ge=0,
        description="most labels there may be; 0: 100000, and few enough for the labels that occur, unless the first "
        "line or label_names say how many there are",
    )
    hashed: int = Field(
        default=0, ge=0, le=MAX_COLUMNS, description="hash features into so many columns (0: do not)"
    )


Pairs = list[tuple[int, float]]


class _Row(NamedTuple):
    where: str
    labels: list[int]
    pairs: Pairs


@dataclass
class _Sizes:
    """Rows, features and labels of a file, and where the largest numbers stand."""

    labels_of_rows: list[list[int]]
    features: int = 0
    labels: int = 0
    least_feature: int = MAX_STATED_LABELS
    least_label: int = MAX_STATED_LABELS
    last_feature: str = ""
    last_label: str = ""
    stated: bool = False


def prepare(settings: SvmlightSettings, raw: RawPaths, writer: DatasetWriter) -> None:
    """Write the rows in the files' order, features as dense vectors."""
    files = parts(settings.path, settings.val_path, settings.test_path, dict(raw))
    if settings.split_path and settings.test_path:
        raise DataError("svmlight: splits are given twice, by split_path and by test_path; give one of them")
    names = _label_names(raw[settings.label_names]) if settings.label_names else []
    first_number = 0 if settings.zero_based else 1
    sizes = {
        name: _sizes(path, first_number, settings.max_labels, bool(names)) for name, path in files.items()
    }
    features = max(size.features for size in sizes.values())
    if features > MAX_COLUMNS and not settings.hashed:
        where = next(size.last_feature for size in sizes.values() if size.features == features)
        raise DataError(
            f"{where}: {features} features are too many to store densely (at most {MAX_COLUMNS}); "
            "say hashed: 4096 to hash them into 4096 columns"
        )
    if not features:
        raise DataError(f"svmlight: no row of {settings.path} has a feature")
    labels = _labels(settings, names, list(sizes.values()), first_number)
    for warning in _oddities(settings, names, list(sizes.values())):
        writer.warn(warning)
    writer.labels(labels)
    if settings.hashed:
        writer.note(f"{features} features are hashed (signed) into {settings.hashed} columns.")
    given = [name for name, size in sizes.items() for _ in size.labels_of_rows]
    if settings.split_path:
        given = splits_in_file(raw[settings.split_path], len(given))
    positives = [[labels[number] for number in row] for size in sizes.values() for row in size.labels_of_rows]
    splits = iter(final_splits(settings, given, positives, writer))
    for name, path in files.items():
        writer.read(path, len(sizes[name].labels_of_rows))
        for number, row in enumerate(_rows(path, first_number)):
            vector = _vector(row.pairs, features, settings.hashed)
            writer.split(next(splits)).add(f"{name}-{number}", row.labels, vector, where=row.where)


def _labels(
    settings: SvmlightSettings, names: list[str], sizes: list[_Sizes], first_number: int
) -> list[str]:
    """The label names. Raises DataError for more labels than there can be: a number with a typo makes millions."""
    if not (count := max(size.labels for size in sizes)):
        raise DataError(f"svmlight: no row of {settings.path} has a label")
    where = next(size.last_label for size in sizes if size.labels == count)
    if names:
        if len(names) < count:
            raise DataError(
                f"{where}: uses label {count - 1 + first_number}, label_names names {len(names)} labels"
            )
        if len(names) == count + 1 and HEADING.fullmatch(names[0]):
            raise DataError(
                f"{settings.label_names}:1: {names[0]!r} looks like a heading, which would shift all names (there are "
                f"{len(names)}, and {count} labels); remove the line"
            )
        return names
    stated = any(size.stated for size in sizes)
    occurring = len({number for size in sizes for row in size.labels_of_rows for number in row})
    if not stated and not settings.max_labels and count > 1000 + 10 * occurring:
        raise DataError(
            f"{where}: label number {count - 1 + first_number} makes {count} labels, of which {occurring} occur; if "
            "it is right, set max_labels, give label_names, or state the numbers in a first line"
        )
    return [f"label {number + first_number}" for number in range(count)]


def _oddities(settings: SvmlightSettings, names: list[str], sizes: list[_Sizes]) -> Iterator[str]:
    """What is accepted, but may be a mistake."""
    if settings.zero_based and all(size.least_label > 0 and size.least_feature > 0 for size in sizes):
        yield "neither label 0 nor feature 0 occurs; if numbers start at 1, set zero_based: false"
    numbers = [int(match[1]) for name in names if (match := re.match(r"(\d{1,9})[\s:,;.)-]+\S", name))]
    counted = (list(range(len(names))), list(range(1, len(names) + 1)))
    if names and sorted(numbers) in counted and numbers not in counted:
        yield "the names in label_names start with numbers that are not in order; what counts is the order of the lines"
    if odd := [name for name in names if looks_missing(name) or looks_like_a_list(name)]:
        yield f"label_names holds names that look misread, such as {shown(odd[0])}"


def _vector(pairs: Pairs, features: int, hashed: int) -> np.ndarray:
    import numpy as np

    vector = np.zeros(hashed or features, dtype=np.float32)
    for number, value in pairs:
        if hashed:
            digest = zlib.crc32(str(number).encode())
            vector[(digest >> 1) % hashed] += value if digest & 1 else -value
        else:
            vector[number] = value
    return vector


def _sizes(path: Path, first_number: int, max_labels: int, named: bool) -> _Sizes:
    """Counted; a first line that states them is checked against what follows."""
    sizes = _Sizes([])
    counts: list[int] = []
    for row in _rows(path, first_number):
        if not sizes.labels_of_rows and not row.pairs:
            counts = row.labels
        sizes.labels_of_rows.append(row.labels)
        sizes.least_label = min([sizes.least_label, *row.labels])
        sizes.least_feature = min([sizes.least_feature, *(number for number, _ in row.pairs)])
        if row.pairs and (features := 1 + max(number for number, _ in row.pairs)) > sizes.features:
            sizes.features, sizes.last_feature = features, row.where
        if row.labels and (labels := 1 + max(row.labels)) > sizes.labels:
            sizes.labels, sizes.last_label = labels, row.where
    if len(counts) > 1 and counts[0] + first_number == len(sizes.labels_of_rows) - 1:
        raise DataError(f"{path}:1: looks like counts, not like a row; write them as `rows features labels`")
    stated = _stated(path)
    if stated is not None:
        rows = len(sizes.labels_of_rows)
        if stated[0] != rows or stated[1] < sizes.features or stated[2] < sizes.labels:
            raise DataError(
                f"{path}:1: states {stated[0]} rows, {stated[1]} features, {stated[2]} labels; "
                f"found are {rows}, {sizes.features}, {sizes.labels} (a blank line between rows is a row)"
            )
        sizes.features, sizes.labels, sizes.stated = stated[1], stated[2], True
        sizes.last_feature = sizes.last_label = f"{path}:1"
    bound = max_labels or (MAX_STATED_LABELS if named or sizes.stated else MAX_LABELS)
    if sizes.labels > bound:
        raise DataError(
            f"{sizes.last_label}: {sizes.labels} labels are more than {bound}; if the number is right, set max_labels"
        )
    return sizes


def _stated(path: Path) -> tuple[int, int, int] | None:
    return _header(next(lines(path), ("", ""))[1].split("#")[0])


def _header(line: str) -> tuple[int, int, int] | None:
    cells = line.split()
    if len(cells) == 3 and all(cell.isascii() and cell.isdigit() and len(cell) < 19 for cell in cells):
        return int(cells[0]), int(cells[1]), int(cells[2])
    return None


def _rows(path: Path, first_number: int) -> Iterator[_Row]:
    for where, text in _row_lines(path):
        cells = re.sub(r",\s+", ",", text).split()
        # A row without labels starts with a space, or with its first pair.
        unlabelled = not cells or text[0].isspace() or ":" in cells[0]
        try:
            labels = [] if unlabelled else [_label(cell) for cell in cells[0].split(",")]
            pairs = [_pair(cell) for cell in (cells if unlabelled else cells[1:])]
        except ValueError as error:
            reason = f" ({error})" if isinstance(error, _NumberError) else ""
            raise DataError(
                f"{where}: expected labels joined by commas, then feature:value pairs{reason}"
            ) from None
        if (
            min(labels, default=first_number) < first_number
            or min((n for n, _ in pairs), default=first_number) < first_number
        ):
            raise DataError(
                f"{where}: label and feature numbers start at {first_number}; targets of -1 and 1 are no label numbers"
            )
        if len({number for number, _ in pairs}) < len(pairs):
            raise DataError(f"{where}: a feature occurs twice")
        yield _Row(
            where,
            [number - first_number for number in labels],
            [(n - first_number, value) for n, value in pairs],
        )


class _NumberError(ValueError):
    """A cell that looks like a number and cannot be one here."""


def _label(cell: str) -> int:
    value = finite(cell)
    if value is None:
        raise ValueError(cell)
    if not value.is_integer():
        raise _NumberError(f"{cell} is no label number; targets of a regression are no labels")
    if abs(value) > MAX_STATED_LABELS:
        raise _NumberError(f"label number {cell} is too large")
    return int(value)


def _row_lines(path: Path) -> Iterator[tuple[str, str]]:
    """The lines that are rows, comments cut off."""
    stated = _stated(path)
    rows = 0
    blank: list[str] = []  # rows only if another row follows, or if the first line counts them
    for where, line in islice(lines(path), 0 if stated is None else 1, None):
        text, comment, _ = line.partition("#")
        if comment and not text.strip():
            continue
        if not text.strip() and (stated is not None or not text):
            blank.append(where)
            continue
        yield from ((earlier, "") for earlier in blank)
        yield where, text
        rows += len(blank) + 1
        blank.clear()
    if stated is not None:
        yield from ((earlier, "") for earlier in blank[: max(0, stated[0] - rows)])


def _pair(cell: str) -> tuple[int, float]:
    number, _, text = cell.partition(":")
    if number == "qid":
        raise _NumberError("qid belongs to ranking data")
    value = finite(text)
    if value is None:
        raise _NumberError(f"feature {number[:20]} is {text[:20]!r}, which is no finite number")
    if not WHOLE.fullmatch(number):
        raise _NumberError(f"{number[:30]!r} is no feature number")
    return int(number), value


def _label_names(path: Path) -> list[str]:
    """A name in each line; lines at the end may be blank, others not: the names that follow would be shifted."""
    listed = [(where, line.strip()) for where, line in lines(path)]
    while listed and not listed[-1][1]:
        listed.pop()
    first: dict[str, str] = {}
    for where, name in listed:
        if not name:
            raise DataError(f"{where}: the line is blank; each line of label_names must name a label")
        if (reason := defect(name)) or INVISIBLE.search(name):
            raise DataError(
                f"{where}: label {shown(name)} {reason or 'holds an invisible character'}; write the name alone"
            )
        if first.setdefault(normal_form(name), where) != where:
            raise DataError(f"{where}: label {name!r} occurs twice, first in {first[normal_form(name)]}")
    return [name for _, name in listed]


SOURCE = Source(
    about=lambda settings: own_about(settings, settings.path),
    modality="vector",
    settings=SvmlightSettings,
    files=lambda settings: own_files(
        settings.path, settings.val_path, settings.test_path, settings.split_path, settings.label_names
    ),
    folder=lambda settings: "",
    prepare=prepare,
)
