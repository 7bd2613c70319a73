"""UK-LEX: laws of the United Kingdom with 18 or 69 topics; the splits are chronological.

Layout as on Zenodo: uk-lex18.jsonl and uk-lex69.jsonl, each line an object with id, title, body, labels, year and
data_type (train, dev or test).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from data_prep.errors import DataError, closest
from data_prep.readers.tables import cell, rows
from data_prep.readers.text import Cleaning, clean
from data_prep.source import About, RawFile, RawPaths, Settings, Source
from data_prep.sources._json_texts import TextRow, write_texts

if TYPE_CHECKING:
    from data_prep.writer import DatasetWriter

SPLITS = {"train": "train", "dev": "val", "val": "val", "validation": "val", "test": "test"}


class UkLexSettings(Settings):
    """Which set of labels."""

    labels: Literal[18, 69] = Field(default=18, description="number of topics: 18 or 69")
    cleaning: Cleaning = Field(default="plain", description="plain, or comprehensive (ASCII, lower case)")


CITATIONS = {"chalkidis2022improved": ""}


def about(settings: UkLexSettings) -> About:
    """Title and counts of the chosen set."""
    return About(
        title=f"UK-LEX ({settings.labels} topics)",
        citation="Chalkidis and Soegaard: Improved Multi-label Classification under Temporal Concept Drift. "
        "Findings of ACL 2022.",
        homepage="https://zenodo.org/record/6355465",
        licence="Open Government Licence (legislation.gov.uk); terms on the Zenodo page.",
        published={"labels": settings.labels, "examples": {"train": 20000, "val": 8500, "test": 8500}},
        published_from="the paper",
    )


def files(settings: UkLexSettings) -> tuple[RawFile, ...]:
    """The file of the chosen set."""
    name = f"uk-lex{settings.labels}.jsonl"
    return (RawFile(name, (f"https://zenodo.org/record/6355465/files/{name}",)),)


def prepare(settings: UkLexSettings, raw: RawPaths, writer: DatasetWriter) -> None:
    """Write the chronological splits."""
    path = next(iter(raw.values()))
    write_texts(writer, lambda: _rows(path, settings.cleaning))


def _rows(path: Path, cleaning: Cleaning) -> Iterator[TextRow]:
    for where, row in rows(path):
        split = str(cell(row, "data_type", where))
        if split not in SPLITS:
            raise DataError(f"{where}: data_type {split!r}: {closest(split, SPLITS)}")
        labels = [str(label) for label in cell(row, "labels", where)]
        text = clean(f"{row.get('title') or ''} {cell(row, 'body', where)}", cleaning)
        yield TextRow(where, SPLITS[split], str(row.get("id", where.rpartition(":")[2])), labels, text)


SOURCE = Source(about=about, modality="text", settings=UkLexSettings, files=files, prepare=prepare)
