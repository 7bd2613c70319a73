"""What datasets in JSON Lines share: labels found in a first pass, rows written in a second."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from data_prep.readers.labels import by_frequency

if TYPE_CHECKING:
    from data_prep.writer import DatasetWriter


@dataclass(frozen=True)
class TextRow:
    """A text with its labels."""

    where: str
    split: str
    row_id: str
    labels: list[str]
    text: str


def write_texts(writer: DatasetWriter, rows: Callable[[], Iterable[TextRow]]) -> None:
    """Declare the labels that occur, by frequency, and write the rows; `rows` is called twice."""
    writer.labels(by_frequency(Counter(label for row in rows() for label in row.labels)))
    for row in rows():
        writer.split(row.split).add(row.row_id, row.labels, row.text, where=row.where)
