"""NUS-WIDE: photographs from Flickr with 81 concepts.

Layout of the official archives, unpacked: ImageList/{Train,Test}Imagelist.txt (one image in each line, with
backslashes), Groundtruth/TrainTestLabels/Labels_<concept>_{Train,Test}.txt (0 or 1 in each line, in the order of
the list), ConceptsList/Concepts81.txt, and the images, sent on request, in Flickr/.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from data_prep.errors import DataError
from data_prep.readers.images import ImageSettings, Picture, add_pictures
from data_prep.readers.lines import lines
from data_prep.readers.splits import validation_rows
from data_prep.source import About, RawFile, RawPaths, Source

if TYPE_CHECKING:
    from data_prep.writer import DatasetWriter

ABOUT = About(
    title="NUS-WIDE",
    citation="Chua et al.: NUS-WIDE: A Real-World Web Image Database from National University of Singapore. CIVR 2009.",
    homepage="https://lms.comp.nus.edu.sg/wp-content/uploads/2019/research/nuswide/NUS-WIDE.html",
    licence="For research; copyright of the images with their owners on Flickr.",
    by_hand="download ImageList.zip, Groundtruth.zip and ConceptsList.zip from the homepage, ask the authors for the "
    "images, and unpack all here: ImageList/, Groundtruth/, ConceptsList/, Flickr/",
    published={"labels": 81, "examples": {"train+val": 161789, "test": 107859}},
    published_from="the paper",
)
CITATIONS = {"chua2009nuswide": ""}

CONCEPTS = RawFile("ConceptsList/Concepts81.txt")
LABELS = RawFile("Groundtruth/TrainTestLabels")
LISTS = {"train": RawFile("ImageList/TrainImagelist.txt"), "test": RawFile("ImageList/TestImagelist.txt")}
IMAGES = RawFile("Flickr")
# The only cell of the official files that is neither 0 nor 1 (Labels_lake_Train.txt, line 78,372).
KNOWN_SLIP = "-1130179"


class NusWideSettings(ImageSettings):
    """Size of the images, validation share, and what becomes of images without labels."""

    without_labels: Literal["drop", "keep"] = Field(default="drop", description="images without labels")
    val: float = Field(default=0.1, gt=0, lt=1, description="share of the training images for validation")
    seed: int = Field(default=0, ge=0, description="which images")


def prepare(settings: NusWideSettings, raw: RawPaths, writer: DatasetWriter) -> None:
    """Write the official split; validation is taken from training."""
    concepts = [line.strip() for _, line in lines(raw[CONCEPTS.path]) if line.strip()]
    writer.labels(concepts)
    writer.note(f"Validation: {settings.val:.0%} of the official training images, at random.")
    for part, file in LISTS.items():
        images = [line.strip().replace("\\", "/") for _, line in lines(raw[file.path]) if line.strip()]
        shown = _labels(raw[LABELS.path], concepts, part, len(images), writer)
        splits = [part] * len(images)
        if part == "train":
            splits = [
                "val" if held else "train"
                for held in validation_rows(len(images), settings.val, settings.seed)
            ]
        add_pictures(
            writer, _pictures(raw[IMAGES.path], images, shown, splits, settings, writer), settings.size
        )


def _labels(
    folder: Path, concepts: list[str], part: str, rows: int, writer: DatasetWriter
) -> list[list[int]]:
    """The concept numbers of each image of a part."""
    found: list[list[int]] = [[] for _ in range(rows)]
    for number, concept in enumerate(concepts):
        path = folder / f"Labels_{concept}_{part.capitalize()}.txt"
        if not path.is_file():
            raise DataError(f"{path}: is missing; unpack Groundtruth.zip")
        cells = [(where, line.strip()) for where, line in lines(path) if line.strip()]
        if len(cells) != rows:
            raise DataError(f"{path}: {len(cells)} lines, the list of images has {rows}")
        for row, (where, cell) in enumerate(cells):
            if cell == KNOWN_SLIP:
                writer.warn("a cell that is neither 0 nor 1, read as 0", where)
            elif cell not in ("0", "1"):
                raise DataError(f"{where}: {cell!r}, expected 0 or 1")
            elif cell == "1":
                found[row].append(number)
    return found


def _pictures(
    folder: Path,
    images: list[str],
    shown: list[list[int]],
    splits: list[str],
    settings: NusWideSettings,
    writer: DatasetWriter,
) -> Iterator[Picture]:
    for image, labels, split in zip(images, shown, splits, strict=True):
        if not labels and settings.without_labels == "drop":
            writer.warn("images without labels are left out", image)
            continue
        file = folder / image
        if not file.is_file():
            raise DataError(f"{file}: is missing; the lists name it")
        yield Picture(split, image, labels, file.read_bytes(), str(file))


SOURCE = Source(
    about=ABOUT,
    modality="image",
    settings=NusWideSettings,
    files=lambda settings: (CONCEPTS, LABELS, *LISTS.values(), IMAGES),
    prepare=prepare,
)
