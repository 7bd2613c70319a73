"""Reuters-21578, ModApte split: newswire with the 90 topics that have a training and a test document.

Read from the official archive: reut2-000.sgm to reut2-021.sgm, SGML in Latin-1. ModApte (README of the
collection, VIII.B): training documents have LEWISSPLIT="TRAIN" and TOPICS="YES", test documents "TEST" and "YES".
Documents with none of the 90 topics are left out, as usual: 7,770 training and 3,019 test documents remain.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from data_prep.errors import DataError
from data_prep.readers.archives import members
from data_prep.readers.labels import by_frequency
from data_prep.readers.markup import elements, first, without_tags
from data_prep.readers.splits import validation_rows
from data_prep.readers.text import Cleaning, clean
from data_prep.source import About, RawFile, RawPaths, Settings, Source

if TYPE_CHECKING:
    from data_prep.writer import DatasetWriter

ABOUT = About(
    title="Reuters-21578 (ModApte, 90 topics)",
    citation="Lewis: Reuters-21578 text categorization test collection, Distribution 1.0. 1997.",
    homepage="https://archive.ics.uci.edu/dataset/137",
    licence="Copyright Reuters; free for research purposes only.",
    published={"labels": 90, "examples": {"train+val": 7770, "test": 3019}},
    published_from="README of the collection and the literature (ApteMod with 90 topics)",
)
CITATIONS = {"lewis1997reuters21578": ""}

ARCHIVE = RawFile(
    "reuters21578.tar.gz",
    (
        "http://kdd.ics.uci.edu/databases/reuters21578/reuters21578.tar.gz",
        "https://archive.ics.uci.edu/ml/machine-learning-databases/reuters21578-mld/reuters21578.tar.gz",
    ),
)
ATTRIBUTE = re.compile(r'(\w+)="([^"]*)"')
SPLITS = {"TRAIN": "train", "TEST": "test"}


class ReutersSettings(Settings):
    """Validation share and cleaning."""

    val: float = Field(default=0.1, gt=0, lt=1, description="share of the training documents for validation")
    seed: int = Field(default=0, ge=0, description="which documents")
    cleaning: Cleaning = Field(default="plain", description="plain, or comprehensive (ASCII, lower case)")


@dataclass(frozen=True)
class _Document:
    row_id: str
    split: str
    topics: list[str]
    text: str


def prepare(settings: ReutersSettings, raw: RawPaths, writer: DatasetWriter) -> None:
    """Write the documents that have one of the topics."""
    documents = list(_documents(raw[ARCHIVE.path]))
    counts = {
        split: Counter(t for d in documents if d.split == split for t in d.topics)
        for split in ("train", "test")
    }
    topics = Counter({topic: counts["train"][topic] for topic in counts["train"] if counts["test"][topic]})
    writer.labels(by_frequency(topics))
    labelled = [document for document in documents if topics.keys() & set(document.topics)]
    training = [document for document in labelled if document.split == "train"]
    held_out = validation_rows(len(training), settings.val, settings.seed)
    validation = {document.row_id for document, chosen in zip(training, held_out, strict=True) if chosen}
    writer.note(f"Validation: {settings.val:.0%} of the ModApte training documents, at random.")
    writer.note(
        f"{len(documents) - len(labelled)} documents of the split have none of the topics and are left out."
    )
    for document in labelled:
        split = "val" if document.row_id in validation else document.split
        labels = [topic for topic in document.topics if topic in topics]
        writer.split(split).add(document.row_id, labels, clean(document.text, settings.cleaning))


def _documents(path: Path) -> Iterator[_Document]:
    """The documents of the ModApte split, in the archive's order."""
    for name, content in members(path, ".sgm"):
        for marks, document in elements(content.decode("latin-1"), "REUTERS"):
            attributes = dict(ATTRIBUTE.findall(marks))
            if "NEWID" not in attributes or "LEWISSPLIT" not in attributes:
                raise DataError(f"{path}:{name}: a document lacks NEWID or LEWISSPLIT")
            if attributes["LEWISSPLIT"] in SPLITS and attributes.get("TOPICS") == "YES":
                topics = [topic for _, topic in elements(first(document, "TOPICS"), "D")]
                yield _Document(
                    attributes["NEWID"], SPLITS[attributes["LEWISSPLIT"]], topics, _text(document)
                )


def _text(document: str) -> str:
    """Title and body; where a document is marked as unprocessed, all of its text."""
    text = f"{first(document, 'TITLE')} {first(document, 'BODY')}"
    if not text.strip():
        text = without_tags(first(document, "TEXT"))
    return html.unescape(text)


SOURCE = Source(
    about=ABOUT,
    modality="text",
    settings=ReutersSettings,
    files=lambda settings: (ARCHIVE,),
    prepare=prepare,
)
