"""MIML natural scenes: 2000 photographs with five labels.

Layout as in github.com/itanvir/miml-classification: miml_dataset/images/<n>.jpg and miml_labels_1.csv with a
column of 0 and 1 for each label. Files are ordered by class.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic import Field

from data_prep.errors import DataError
from data_prep.readers.archives import Archive, open_archive, read_member, text_lines
from data_prep.readers.images import ImageSettings, Picture, add_pictures
from data_prep.readers.splits import assign
from data_prep.source import About, RawFile, RawPaths, Source

if TYPE_CHECKING:
    from data_prep.writer import DatasetWriter

ABOUT = About(
    title="MIML natural scenes",
    citation="Zhou and Zhang: Multi-Instance Multi-Label Learning with Application to Scene Classification. NIPS 2006.",
    homepage="https://www.lamda.nju.edu.cn/data_MIMLimage.ashx",
    licence="Offered for academic use; images from COREL and the web, no licence file. Cite the paper.",
    by_hand="pack the folder miml_dataset of github.com/itanvir/miml-classification as miml_dataset.zip",
    published={"labels": 5, "rows": 2000, "cardinality": 1.24},
    published_from="the dataset's page and paper",
)
CITATIONS = {"zhou2006multiinstance": ""}

ARCHIVE = RawFile("miml_dataset.zip")
TABLE = "miml_dataset/miml_labels_1.csv"


class MimlSettings(ImageSettings):
    """Size of the images and shares of the splits; none is given by the authors."""

    val: float = Field(default=0.1, gt=0, lt=1, description="share of validation images")
    test: float = Field(default=0.3, gt=0, lt=1, description="share of test images")
    seed: int = Field(default=0, ge=0, description="which images")


def prepare(settings: MimlSettings, raw: RawPaths, writer: DatasetWriter) -> None:
    """Write a random split."""
    with open_archive(raw[ARCHIVE.path]) as archive:
        table = list(csv.reader(text_lines(archive, TABLE)))
        if not table or not all(table):
            raise DataError(f"{archive.path}:{TABLE}: has no header, or a blank line")
        header, *rows = table
        writer.labels(header[1:])
        writer.note("No split is given: images are split at random.")
        shares = {"train": 1 - settings.val - settings.test, "val": settings.val, "test": settings.test}
        splits = assign(len(rows), shares, settings.seed)
        add_pictures(writer, _pictures(archive, header[1:], rows, splits), settings.size)


def _pictures(
    archive: Archive, names: list[str], rows: list[list[str]], splits: list[str]
) -> Iterator[Picture]:
    for (file, *cells), split in zip(rows, splits, strict=True):
        where = f"{archive.path}:{file}"
        if len(cells) != len(names) or not set(cells) <= {"0", "1"}:
            raise DataError(
                f"{archive.path}:{TABLE}: the row of {file} must have {len(names)} cells of 0 or 1"
            )
        labels = [name for name, cell in zip(names, cells, strict=True) if cell == "1"]
        yield Picture(split, file, labels, read_member(archive, f"miml_dataset/images/{file}"), where)


SOURCE = Source(
    about=ABOUT,
    modality="image",
    settings=MimlSettings,
    files=lambda settings: (ARCHIVE,),
    prepare=prepare,
)
