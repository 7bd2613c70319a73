"""What coco2014 and coco2017 share: one archive of annotations, one of images for each of train and val."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from data_prep.errors import DataError
from data_prep.readers.archives import Archive, open_archive, read_member
from data_prep.readers.coco import CocoLabels, Number, read_instances
from data_prep.readers.images import ImageSettings, Picture, add_pictures
from data_prep.readers.splits import assign
from data_prep.source import RawFile, RawPaths

if TYPE_CHECKING:
    from data_prep.writer import DatasetWriter


class CocoSettings(ImageSettings):
    """Size of the images, and which split."""

    split: Literal["official", "comprehensive"] = Field(
        default="official",
        description="official: val is the test split, validation is a part of train; "
        "comprehensive: train as it is, a quarter of val each for validation and test, half of val unused, as in the "
        "code of the comprehensive study",
    )
    val: float = Field(
        default=0.1, gt=0, lt=1, description="share of train that becomes validation (official)"
    )
    seed: int = Field(default=0, ge=0, description="which images become validation")


def raw_files(year: int, published: dict[str, tuple[int, str]]) -> tuple[RawFile, ...]:
    """The three archives; `published`: name -> size and sha256."""
    base = "http://images.cocodataset.org"
    folders = {f"annotations_trainval{year}.zip": "annotations"}
    return tuple(
        RawFile(name, (f"{base}/{folders.get(name, 'zips')}/{name}",), size, sha256)
        for name, (size, sha256) in published.items()
    )


def prepare_year(year: int, settings: CocoSettings, raw: RawPaths, writer: DatasetWriter) -> None:
    """Write the splits of one year's release; labels are the 80 categories in the order of their numbers."""
    found: dict[str, CocoLabels] = {}
    with open_archive(raw[f"annotations_trainval{year}.zip"]) as archive:
        for part in ("train", "val"):
            name = f"annotations/instances_{part}{year}.json"
            with archive.open(name) as file:
                found[part] = read_instances(file, f"{archive.path}:{name}")
    if found["val"].categories != found["train"].categories:
        raise DataError(f"{raw[f'annotations_trainval{year}.zip']}: train and val list different categories")
    writer.labels(found["train"].names)
    for split, (part, images) in _splits(found, settings, writer).items():
        with open_archive(raw[f"{part}{year}.zip"]) as archive:
            pictures = _pictures(split, archive, f"{part}{year}", found[part], images)
            add_pictures(writer, pictures, settings.size)


def _splits(
    found: dict[str, CocoLabels], settings: CocoSettings, writer: DatasetWriter
) -> dict[str, tuple[str, Sequence[Number]]]:
    """The archive and the image numbers of each split."""
    images = {part: list(labels.files) for part, labels in found.items()}
    if settings.split == "official":
        writer.note(
            f"Test: the official val. Validation: {settings.val:.0%} of the official train, at random."
        )
        chosen = assign(len(images["train"]), {"val": settings.val, "train": 1 - settings.val}, settings.seed)
        parts = {
            split: [image for image, name in zip(images["train"], chosen, strict=True) if name == split]
            for split in ("train", "val")
        }
        return {
            "train": ("train", parts["train"]),
            "val": ("train", parts["val"]),
            "test": ("val", images["val"]),
        }
    writer.note(
        "comprehensive: a random quarter of the official val each is validation and test; half of it stays unused."
    )
    names = assign(len(images["val"]), {"val": 0.25, "test": 0.25, "unused": 0.5}, settings.seed)
    quarter = {
        split: [image for image, name in zip(images["val"], names, strict=True) if name == split]
        for split in ("val", "test")
    }
    return {
        "train": ("train", images["train"]),
        "val": ("val", quarter["val"]),
        "test": ("val", quarter["test"]),
    }


def _pictures(
    split: str, archive: Archive, folder: str, labels: CocoLabels, images: Sequence[Number]
) -> Iterator[Picture]:
    for image in images:
        name = f"{folder}/{labels.files[image]}"
        yield Picture(
            split, str(image), labels.labels(image), read_member(archive, name), f"{archive.path}:{name}"
        )
