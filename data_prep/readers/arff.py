"""ARFF files with the label list of Mulan's XML: dense and sparse rows, numeric and nominal attributes.

Formats: waikato.github.io/weka-wiki/formats_and_processing/arff_stable and mulan.sourceforge.net/format.html.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from data_prep.errors import DataError, closest
from data_prep.readers.lines import lines
from data_prep.readers.numbers import finite

if TYPE_CHECKING:
    import numpy as np

ATTRIBUTE = re.compile(r"""@attribute\s+('(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|\S+)\s+(.+)""", re.IGNORECASE)
SPECIAL = re.compile(r"""[,'"\\]""")
NUMERIC = {"numeric", "real", "integer"}
YES = {"1", "yes", "true", "y", "t"}
NO = {"0", "no", "false", "n", "f"}
MAX_NOMINAL = 100  # an attribute with more values than this is an identifier, not a feature


@dataclass(frozen=True)
class Attribute:
    """A column: `values` are those of a nominal attribute, None for a number."""

    name: str
    values: tuple[str, ...] | None


def label_list(xml: Path) -> list[str]:
    """The label names of Mulan's XML, hierarchies flattened, in order."""
    try:
        root = ElementTree.parse(xml).getroot()
    except (ElementTree.ParseError, OSError) as error:
        raise DataError(f"{xml}: cannot be read as XML ({error})") from None
    names = [_unquoted(node.get("name", "")) for node in root.iter() if node.tag.split("}")[-1] == "label"]
    if not names:
        raise DataError(f"{xml}: lists no labels; expected <labels><label name=...></label></labels>")
    return names


class ArffFile:
    """One file: its attributes, and its rows as feature vectors and label names.

    Args:
        split: the attribute that says each row's split; it is no feature.

    Raises:
        DataError: a header that cannot be read, an attribute that occurs twice, or labels that are not there.
    """

    def __init__(self, path: Path, label_names: list[str], split: str = "") -> None:
        self.path = path
        self.attributes = list(_attributes(path))
        numbers: dict[str, int] = {}
        for number, attribute in enumerate(self.attributes):
            if numbers.setdefault(attribute.name, number) != number:
                raise DataError(f"{path}: attribute {attribute.name!r} occurs twice")
        for name in [*label_names, *([split] if split else [])]:
            if name not in numbers:
                what = "split" if name == split else "label"
                raise DataError(
                    f"{path}: {what} {name!r} is not among the attributes: {closest(name, numbers)}"
                )
        self._labels = {numbers[label]: label for label in label_names}
        omitted = {number: self._omitted(number) for number in self._labels}
        self._set_when_omitted = {number: cell for number, cell in omitted.items() if cell.lower() in YES}
        self._split = numbers[split] if split else None
        features = [
            number
            for number in range(len(self.attributes))
            if number not in self._labels and number != self._split
        ]
        self.left_out = [self.attributes[number].name for number in features if self._is_identifier(number)]
        self._columns: dict[int, int] = {}
        self.width = 0
        for number in features:
            if not self._is_identifier(number):
                self._columns[number] = self.width
                self.width += self._column_count(number)
        self.missing = 0

    def count_rows(self) -> int:
        """The number of rows, found without parsing them."""
        return sum(1 for _ in _data_lines(self.path))

    def labels_and_splits(self) -> list[tuple[str, list[str], str]]:
        """Each row's place, label names, and split (empty without a split attribute); features are not read."""
        rows = []
        for where, cells in self._all_cells():
            split = cells.get(self._split, self._omitted(self._split)) if self._split is not None else ""
            rows.append((where, self._positives(cells, where), split))
        return rows

    def rows(self) -> Iterator[tuple[str, np.ndarray, list[str]]]:
        """Each row as (where, features (F,) float32, label names).

        A nominal attribute with two values is one column, with more it is one column for each value. Missing
        values (`?`) become 0 and are counted in `missing`.
        """
        self.missing = 0
        blank = self._encoded(
            {number: self._omitted(number) for number in range(len(self.attributes))}, "header"
        )
        for where, cells in self._all_cells():
            vector = self._encoded(cells, where, blank if len(cells) < len(self.attributes) else None)
            yield where, vector, self._positives(cells, where)

    def _all_cells(self) -> Iterator[tuple[str, dict[int, str]]]:
        for where, line in _data_lines(self.path):
            sparse = line.startswith("{")
            yield where, self._sparse_cells(line, where) if sparse else self._dense_cells(line, where)

    def _positives(self, cells: dict[int, str], where: str) -> list[str]:
        """The labels that a row has; of those that it leaves out, few have a value that is not 0."""
        given = ((number, cell) for number, cell in cells.items() if number in self._labels)
        said = {**self._set_when_omitted, **dict(given)}
        return [self._labels[number] for number, cell in said.items() if self._is_set(cell, number, where)]

    def refuse_other_attributes(self, other: ArffFile) -> None:
        """Raise DataError unless the other file has these attributes in this order: columns go by place."""
        if other.attributes == self.attributes:
            return
        pairs = enumerate(zip_longest(self.attributes, other.attributes))
        number, (here, there) = next((n, pair) for n, pair in pairs if pair[0] != pair[1])
        raise DataError(
            f"{other.path}: its attributes differ from those of {self.path}: number {number} (from 0) is "
            f"{_described(there)}, there {_described(here)}; all files of a dataset need the same attributes, "
            "values and order"
        )

    def _is_identifier(self, number: int) -> bool:
        values = self.attributes[number].values
        return values is not None and len(values) > MAX_NOMINAL

    def _column_count(self, number: int) -> int:
        values = self.attributes[number].values
        return len(values) if values is not None and len(values) > 2 else 1

    def _omitted(self, number: int) -> str:
        """What a cell that is left out of a sparse row stands for: 0, or the first nominal value."""
        values = self.attributes[number].values
        return values[0] if values else "0"

    def _encoded(self, cells: dict[int, str], where: str, base: np.ndarray | None = None) -> np.ndarray:
        import numpy as np

        vector = np.zeros(self.width, dtype=np.float32) if base is None else base.copy()
        for number, cell in cells.items():
            column = self._columns.get(number)
            if column is None:
                continue
            if cell == "?":
                self.missing += 1
                vector[column : column + self._column_count(number)] = 0
                continue
            values = self.attributes[number].values
            if values is None:
                vector[column] = self._number(cell, number, where)
            elif len(values) <= 2:
                vector[column] = self._binary(cell, number, where)
            else:
                vector[column : column + len(values)] = 0
                vector[column + self._value_index(cell, number, where)] = 1
        return vector

    def _number(self, cell: str, number: int, where: str) -> float:
        value = finite(cell)
        if value is None:
            raise DataError(
                f"{where}: {cell!r} is not a finite number (attribute {self.attributes[number].name}); a missing value "
                "is written ?"
            )
        return value

    def _value_index(self, cell: str, number: int, where: str) -> int:
        attribute = self.attributes[number]
        try:
            return (attribute.values or ()).index(cell)
        except ValueError:
            valid = closest(cell, attribute.values or ())
            raise DataError(
                f"{where}: {cell!r} is not a value of attribute {attribute.name}: {valid}"
            ) from None

    def _binary(self, cell: str, number: int, where: str) -> int:
        # Only a pair of words says yes and no: of {M,F}, F alone would be read as false, and M is number 0.
        values = {value.lower() for value in self.attributes[number].values or ()}
        if values & YES and values & NO and cell.lower() in YES | NO:
            return int(cell.lower() in YES)
        return self._value_index(cell, number, where)

    def _is_set(self, cell: str, number: int, where: str) -> bool:
        if cell.lower().removesuffix(".0") not in YES | NO:
            raise DataError(f"{where}: label {self._labels[number]} is {cell!r}, expected 0 or 1")
        return cell.lower().removesuffix(".0") in YES

    def _dense_cells(self, line: str, where: str) -> dict[int, str]:
        cells = [_unquoted(cell) for cell in _cells(line, where)]
        if len(cells) != len(self.attributes):
            raise DataError(f"{where}: {len(cells)} cells for {len(self.attributes)} attributes")
        return dict(enumerate(cells))

    def _sparse_cells(self, line: str, where: str) -> dict[int, str]:
        found: dict[int, str] = {}
        for pair in _cells(line.strip("{} \t"), where, sparse=True):
            index, _, cell = pair.replace("\t", " ", 1).partition(" ")
            known = (
                index.isascii() and index.isdigit() and len(index) < 10 and int(index) < len(self.attributes)
            )
            if not known or not cell.strip():
                raise DataError(f"{where}: {pair!r} is not an attribute number (from 0) and a value")
            if int(index) in found:
                raise DataError(f"{where}: attribute number {index} occurs twice")
            found[int(index)] = _unquoted(cell.strip())
        return found


class PartlyLabelledArffFile(ArffFile):
    """A file whose label cells may be `?`.

    A class of its own, so that published datasets, which have none, keep their fingerprint.
    """

    unknown: Sequence[tuple[str, ...]] = ()
    """The labels of each row that are `?`; after `labels_and_splits`."""

    def labels_and_splits(self) -> list[tuple[str, list[str], str]]:
        self.unknown = [
            tuple(self._labels[number] for number, cell in cells.items() if self._is_unknown(number, cell))
            for _, cells in self._all_cells()
        ]
        return super().labels_and_splits()

    def _positives(self, cells: dict[int, str], where: str) -> list[str]:
        known = {number: "0" if self._is_unknown(number, cell) else cell for number, cell in cells.items()}
        return super()._positives(known, where)

    def _is_unknown(self, number: int, cell: str) -> bool:
        return cell == "?" and number in self._labels


def _described(attribute: Attribute | None) -> str:
    if attribute is None:
        return "missing"
    if attribute.values is None:
        return f"{attribute.name} (numeric)"
    values = ",".join(attribute.values)
    return f"{attribute.name} {{{values if len(values) <= 60 else values[:60] + '...'}}}"


def _attributes(path: Path) -> Iterator[Attribute]:
    for where, line in lines(path):
        word = line.strip().lower()
        if word.startswith("@data"):
            return
        if word.startswith("@attribute"):
            match = ATTRIBUTE.fullmatch(line.strip())
            if match is None:
                raise DataError(f"{where}: cannot be read as '@attribute NAME TYPE'")
            yield Attribute(_unquoted(match[1]), _nominal_values(match[2].strip(), where))
    raise DataError(f"{path}: has no @data line")


def _nominal_values(kind: str, where: str) -> tuple[str, ...] | None:
    if kind.lower() in NUMERIC:
        return None
    if kind.startswith("{") and kind.endswith("}"):
        return tuple(_unquoted(cell) for cell in _cells(kind[1:-1], where))
    raise DataError(f"{where}: attribute type {kind!r} is not supported; numeric and {{nominal, values}} are")


def _data_lines(path: Path) -> Iterator[tuple[str, str]]:
    in_data = False
    for where, line in lines(path):
        stripped = line.strip()
        if in_data and stripped and not stripped.startswith("%"):
            yield where, stripped
        in_data = in_data or stripped.lower().startswith("@data")


def _cells(line: str, where: str, sparse: bool = False) -> list[str]:
    """The cells between commas, stripped, as they stand (in their quotation marks). One pass over the line.

    A quotation mark opens at the start of a cell, in a sparse row also after the attribute's number. Raises
    DataError where one is not closed.
    """
    if not line.strip():
        return []
    if "'" not in line and '"' not in line:
        return [cell.strip() for cell in line.split(",")]
    found, start, position, quote = [], 0, 0, ""
    while match := SPECIAL.search(line, position):
        at, character = match.start(), match[0]
        position = at + 1
        if character == "\\":
            position += 1
        elif quote:
            quote = "" if character == quote else quote
        elif character == ",":
            found.append(line[start:at].strip())
            start = position
        elif not line[start:at].strip() or (sparse and line[at - 1].isspace()):
            quote = character
    if quote:
        raise DataError(f"{where}: a quotation mark ({quote}) is not closed")
    last = line[start:].strip()
    return [*found, last] if last or not found else found


def _unquoted(text: str) -> str:
    if len(text) == 1:
        return text
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        text = text[1:-1]
    return re.sub(r"\\(.)", r"\1", text)
