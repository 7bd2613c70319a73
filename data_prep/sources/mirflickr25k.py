"""MIRFlickr-25k: photographs from Flickr with annotated topics.

Layout of the official archives: mirflickr25k.zip holds mirflickr/im1.jpg to im25000.jpg;
mirflickr25k_annotations_v080.zip holds a text file for each topic with the numbers of the images that show it
(potential labels; files ending in _r1 list the relevant ones and are not used).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from data_prep.errors import DataError
from data_prep.readers.archives import Archive, open_archive, read_member, text_lines
from data_prep.readers.images import ImageSettings, Picture, add_pictures
from data_prep.readers.splits import assign
from data_prep.source import About, RawFile, RawPaths, Source

if TYPE_CHECKING:
    from data_prep.writer import DatasetWriter

ABOUT = About(
    title="MIRFlickr-25k",
    citation="Huiskes and Lew: The MIR Flickr Retrieval Evaluation. ACM MIR 2008.",
    homepage="https://press.liacs.nl/mirflickr/mirdownload.html",
    licence="Images under Creative Commons licences, each its own; for research.",
    published={"rows": 25000},
    published_from="the paper",
)
CITATIONS = {"huiskes2008mir": ""}

BASE = "http://press.liacs.nl/mirflickr/mirflickr25k.v3b"
IMAGES = RawFile("mirflickr25k.zip", (f"{BASE}/mirflickr25k.zip",), md5="a23d0a8564ee84cda5622a6c2f947785")
ANNOTATIONS = RawFile("mirflickr25k_annotations_v080.zip", (f"{BASE}/mirflickr25k_annotations_v080.zip",))
SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}


class MirFlickrSettings(ImageSettings):
    """Size of the images, and what becomes of those without labels."""

    without_labels: Literal["drop", "keep"] = Field(
        default="drop",
        description="images without labels: dropped after the split (the study's way), or kept",
    )
    seed: int = Field(default=0, ge=0, description="which images go where")


def prepare(settings: MirFlickrSettings, raw: RawPaths, writer: DatasetWriter) -> None:
    """Write a random split, 20,000 / 2,500 / 2,500."""
    with open_archive(raw[ANNOTATIONS.path]) as archive:
        topics = _topics(archive)
    writer.labels(topics)
    shown: dict[str, list[str]] = {}
    for topic, images in topics.items():
        for image in images:
            shown.setdefault(image, []).append(topic)
    with open_archive(raw[IMAGES.path]) as archive:
        files = [
            name for name in archive.names() if Path(name).name.startswith("im") and name.endswith(".jpg")
        ]
        files.sort(key=_number)
        if unknown := shown.keys() - {str(_number(name)) for name in files}:
            raise DataError(
                f"{raw[ANNOTATIONS.path]}: lists image {min(unknown)}, which {archive.path} does not have"
            )
        splits = assign(len(files), SHARES, settings.seed)
        writer.note("No split is given: images are split at random, 80 / 10 / 10 %.")
        add_pictures(writer, _pictures(archive, files, splits, shown, settings, writer), settings.size)


def _topics(archive: Archive) -> dict[str, list[str]]:
    """Topic -> numbers of the images that may show it, topics sorted."""
    names = {Path(name).stem: name for name in archive.names() if name.endswith(".txt")}
    chosen = sorted(stem for stem in names if not stem.endswith("_r1") and stem.lower() != "readme")
    if not chosen:
        raise DataError(f"{archive.path}: holds no lists of images by topic")
    return {
        topic: [line.strip() for line in text_lines(archive, names[topic]) if line.strip()]
        for topic in chosen
    }


def _number(name: str) -> int:
    digits = Path(name).stem.removeprefix("im")
    return int(digits) if digits.isdigit() else -1


def _pictures(
    archive: Archive,
    files: list[str],
    splits: list[str],
    shown: dict[str, list[str]],
    settings: MirFlickrSettings,
    writer: DatasetWriter,
) -> Iterator[Picture]:
    for name, split in zip(files, splits, strict=True):
        labels = shown.get(str(_number(name)), [])
        if labels or settings.without_labels == "keep":
            yield Picture(
                split, Path(name).stem, labels, read_member(archive, name), f"{archive.path}:{name}"
            )
        else:
            writer.warn("images without labels are left out", name)


SOURCE = Source(
    about=ABOUT,
    modality="image",
    settings=MirFlickrSettings,
    files=lambda settings: (IMAGES, ANNOTATIONS),
    prepare=prepare,
)
