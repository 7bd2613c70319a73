"""ADP, the Atlas of Digital Pathology: patches of tissue with nine types of the first level.

Layout of release 1.0: `ADP V1.0 Release/` with ADP_EncodedLabels_Release1_Flat.csv (column `Patch Names`, a column
of 0 and 1 for each type), img_res_1um_bicubic/ with the patches, and splits/{train,valid,test}.npy with row numbers
of the table.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from data_prep.errors import DataError
from data_prep.readers.arrays import UNREADABLE
from data_prep.readers.images import ImageSettings, Picture, add_pictures
from data_prep.readers.tables import cell, rows
from data_prep.source import About, RawFile, RawPaths, Source

if TYPE_CHECKING:
    from data_prep.writer import DatasetWriter

ABOUT = About(
    title="ADP (level 1)",
    citation="Hosseini et al.: Atlas of Digital Pathology: A Generalized Hierarchical Histological Tissue "
    "Type-Annotated Database for Deep Learning. CVPR 2019.",
    homepage="https://www.dsp.utoronto.ca/projects/ADP/",
    licence="On request, for research.",
    by_hand="request the data from the homepage and put the folder 'ADP V1.0 Release' here, with splits/train.npy, "
    "valid.npy and test.npy of the official code",
    published={"labels": 9, "rows": 17668},
    published_from="the paper",
)
CITATIONS = {"hosseini2019atlas": ""}

ROOT = "ADP V1.0 Release"
TABLE = RawFile(f"{ROOT}/ADP_EncodedLabels_Release1_Flat.csv")
IMAGES = RawFile(f"{ROOT}/img_res_1um_bicubic")
SPLITS = {"train": "train", "val": "valid", "test": "test"}
LISTS = {split: RawFile(f"{ROOT}/splits/{name}.npy") for split, name in SPLITS.items()}
TYPES = ("E", "C", "H", "S", "A", "M", "N", "G", "T")


def prepare(settings: ImageSettings, raw: RawPaths, writer: DatasetWriter) -> None:
    """Write the given splits."""
    writer.labels(TYPES)
    table = list(_patches(raw[TABLE.path]))
    add_pictures(writer, _pictures(raw, table), settings.size)


def _patches(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Each row's patch and its types."""
    for where, row in rows(path):
        cells = {name: str(cell(row, name, where)).strip() for name in TYPES}
        if not set(cells.values()) <= {"0", "1"}:
            raise DataError(f"{where}: the columns {', '.join(TYPES)} must be 0 or 1")
        yield str(cell(row, "Patch Names", where)), [name for name, value in cells.items() if value == "1"]


def _pictures(raw: RawPaths, table: list[tuple[str, list[str]]]) -> Iterator[Picture]:
    import numpy as np

    for split, file in LISTS.items():
        try:
            numbers = np.load(raw[file.path], allow_pickle=False)
        except UNREADABLE as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise DataError(
                f"{raw[file.path]}: cannot be read as an array of row numbers ({reason})"
            ) from None
        for number in numbers:
            if not 0 <= number < len(table):
                raise DataError(f"{raw[file.path]}: row {number}, the table has {len(table)}")
            patch, labels = table[int(number)]
            image = raw[IMAGES.path] / patch
            if not image.is_file():
                raise DataError(f"{image}: is missing; the table names it")
            yield Picture(split, patch, labels, image.read_bytes(), str(image))


SOURCE = Source(
    about=ABOUT,
    modality="image",
    settings=ImageSettings,
    files=lambda settings: (TABLE, IMAGES, *LISTS.values()),
    prepare=prepare,
)
