"""EURLEX57K: laws of the European Union with EUROVOC concepts.

Layout as archived by the authors (dataset.zip): train.jsonl, dev.jsonl and test.jsonl, each line an object with
celex_id, title, header, recitals, main_body (a list) and eurovoc_concepts (a list of concept numbers).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from data_prep.errors import DataError
from data_prep.readers.archives import open_archive
from data_prep.readers.text import Cleaning, clean
from data_prep.source import About, RawFile, RawPaths, Settings, Source
from data_prep.sources._json_texts import TextRow, write_texts

if TYPE_CHECKING:
    from data_prep.writer import DatasetWriter

ABOUT = About(
    title="EURLEX57K",
    citation="Chalkidis et al.: Large-Scale Multi-Label Text Classification on EU Legislation. ACL 2019.",
    homepage="http://nlp.cs.aueb.gr/software_and_datasets/EURLEX57K/",
    licence="CC BY-SA.",
    published={"labels": 4271, "examples": {"train": 45000, "val": 6000, "test": 6000}},
    published_from="the paper",
)
CITATIONS = {"chalkidis2019largescale": ""}

ARCHIVE = RawFile("dataset.zip", ("http://archive.org/download/EURLEX57K/dataset.zip",))
FILES = {"train": "train.jsonl", "val": "dev.jsonl", "test": "test.jsonl"}


class EurlexSettings(Settings):
    """How the laws are read."""

    cleaning: Cleaning = Field(default="plain", description="plain, or comprehensive (ASCII, lower case)")


def prepare(settings: EurlexSettings, raw: RawPaths, writer: DatasetWriter) -> None:
    """Write the three splits as given."""
    write_texts(writer, lambda: _rows(raw[ARCHIVE.path], settings.cleaning))


def _rows(path: Path, cleaning: Cleaning) -> Iterator[TextRow]:
    with open_archive(path) as archive:
        for split, file in FILES.items():
            name = next((name for name in archive.names() if Path(name).name == file), file)
            with archive.open(name) as stream:
                for number, line in enumerate(stream, start=1):
                    yield _row(line, f"{path}:{name}:{number}", split, cleaning)


def _row(line: bytes, where: str, split: str, cleaning: Cleaning) -> TextRow:
    try:
        law = json.loads(line)
        parts = [law["header"], law["recitals"], *law["main_body"]]
        labels = [str(concept) for concept in law["eurovoc_concepts"]]
        return TextRow(where, split, law["celex_id"], labels, clean("\n".join(parts), cleaning))
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{where}: not a law as documented ({type(error).__name__}: {error})") from None


SOURCE = Source(
    about=ABOUT,
    modality="text",
    settings=EurlexSettings,
    files=lambda settings: (ARCHIVE,),
    prepare=prepare,
)
