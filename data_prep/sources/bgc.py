"""Blurb Genre Collection (English): advertising texts of books with 146 genres in a hierarchy.

Layout of the official archive: BlurbGenreCollection_EN_{train,dev,test}.txt, books as <book> with <title>, <body>,
<topics> holding <d0> to <d3> (genres by depth), <isbn>.
"""

from __future__ import annotations

import html
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from data_prep.errors import DataError
from data_prep.readers.archives import open_archive
from data_prep.readers.lines import decoded_lines
from data_prep.readers.markup import elements, first
from data_prep.readers.text import Cleaning, clean
from data_prep.source import About, RawFile, RawPaths, Settings, Source
from data_prep.sources._json_texts import TextRow, write_texts

if TYPE_CHECKING:
    from data_prep.writer import DatasetWriter

ABOUT = About(
    title="Blurb Genre Collection (English)",
    citation="Aly et al.: Hierarchical Multi-label Classification of Text with Capsule Networks. ACL SRW 2019.",
    homepage="https://www.inf.uni-hamburg.de/en/inst/ab/lt/resources/data/blurb-genre-collection.html",
    licence="CC BY-NC 4.0; copyright of the blurbs Penguin Random House.",
    published={"labels": 146, "examples": {"train": 58715, "val": 14785, "test": 18394}},
    published_from="README of the collection; the paper",
)
CITATIONS = {"aly2019hierarchical": ""}

ARCHIVE = RawFile(
    "blurbgenrecollectionen.zip", ("https://fiona.uni-hamburg.de/ca89b3cf/blurbgenrecollectionen.zip",)
)
FILES = {
    split: f"BlurbGenreCollection_EN_{name}.txt"
    for split, name in (("train", "train"), ("val", "dev"), ("test", "test"))
}


class BgcSettings(Settings):
    """How the blurbs are read."""

    cleaning: Cleaning = Field(default="plain", description="plain, or comprehensive (ASCII, lower case)")


def prepare(settings: BgcSettings, raw: RawPaths, writer: DatasetWriter) -> None:
    """Write the three official splits; genres of all depths are labels."""
    write_texts(writer, lambda: _rows(raw[ARCHIVE.path], settings.cleaning))


def _rows(path: Path, cleaning: Cleaning) -> Iterator[TextRow]:
    with open_archive(path) as archive:
        for split, file in FILES.items():
            name = next((name for name in archive.names() if Path(name).name == file), file)
            lines = decoded_lines(archive.open(name), f"{path}:{name}")
            text = "\n".join(line for _, line in lines)
            for number, (_, book) in enumerate(elements(text, "book")):
                where = f"{path}:{name}:book {number + 1}"
                if "<topics>" not in book:
                    raise DataError(f"{where}: has no <topics>")
                labels = [
                    html.unescape(genre).strip() for _, genre in elements(first(book, "topics"), r"d\d")
                ]
                # The same book may be listed more than once: its number is part of the id.
                body = html.unescape(first(book, "body"))
                yield TextRow(where, split, f"{split}-{number}", labels, clean(body, cleaning))


SOURCE = Source(
    about=ABOUT,
    modality="text",
    settings=BgcSettings,
    files=lambda settings: (ARCHIVE,),
    prepare=prepare,
)
