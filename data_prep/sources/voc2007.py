"""Pascal VOC 2007: photographs with 20 classes of objects, read from the two official archives.

Layout: both unpack to VOCdevkit/VOC2007/{Annotations,ImageSets,JPEGImages}; lists of image numbers in
ImageSets/Main/{train,val,trainval,test}.txt.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from data_prep.readers.archives import Archive, open_archive, read_member, text_lines
from data_prep.readers.images import ImageSettings, Picture, add_pictures
from data_prep.readers.splits import assign
from data_prep.readers.voc import object_classes
from data_prep.source import About, RawFile, RawPaths, Source

if TYPE_CHECKING:
    from data_prep.writer import DatasetWriter

ABOUT = About(
    title="Pascal VOC 2007",
    citation="Everingham et al.: The Pascal Visual Object Classes (VOC) Challenge. IJCV 88, 2010.",
    homepage="http://host.robots.ox.ac.uk/pascal/VOC/voc2007/",
    licence="Images from Flickr: use must respect the Flickr terms of use. Cite Everingham et al.",
    published={"labels": 20, "examples": {"train": 2501, "val": 2510, "test": 4952}},
    published_from="VOC2007 development kit; the counts of the official split",
)
CITATIONS = {"everingham2010pascal": ""}

CLASSES = [
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
]
ROOT = "VOCdevkit/VOC2007"
HOSTS = (
    "http://host.robots.ox.ac.uk/pascal/VOC/voc2007",
    "https://thor.robots.ox.ac.uk/pascal/VOC/voc2007",
    "http://pjreddie.com/media/files",
)


def _archive(name: str, size: int, sha256: str, md5: str) -> RawFile:
    return RawFile(name, tuple(f"{host}/{name}" for host in HOSTS), size, sha256, md5)


# Sizes and sha256: tensorflow/datasets, url_checksums/voc.txt; md5: torchvision.
TRAINVAL = _archive(
    "VOCtrainval_06-Nov-2007.tar",
    460032000,
    "7d8cd951101b0957ddfd7a530bdc8a94f06121cfc1e511bb5937e973020c7508",
    "c52e279531787c972589f7e41ab4ae64",
)
TEST = _archive(
    "VOCtest_06-Nov-2007.tar",
    451020800,
    "6836888e2e01dca84577a849d339fa4f73e1e4f135d312430c4856b5609b4892",
    "b6e924de25625d8de591ea690078ad9f",
)


class VocSettings(ImageSettings):
    """Size of the images, which split, and what an object that is hard to see counts as."""

    split: Literal["official", "trainval", "comprehensive"] = Field(
        default="official",
        description="official: train, val, test; trainval: train on trainval, of which a part is validation; "
        "comprehensive: train on all of trainval, halves of the official test as validation and test, as in the "
        "code of the comprehensive study",
    )
    val: float = Field(
        default=0.1, gt=0, lt=1, description="share of trainval that becomes validation (trainval)"
    )
    difficult: bool = Field(default=False, description="whether objects marked difficult count as present")
    seed: int = Field(default=0, ge=0, description="which images, where a split is drawn")


def prepare(settings: VocSettings, raw: RawPaths, writer: DatasetWriter) -> None:
    """Write the chosen split."""
    writer.labels(CLASSES)
    with ExitStack() as stack:
        trainval = stack.enter_context(open_archive(raw[TRAINVAL.path]))
        test = stack.enter_context(open_archive(raw[TEST.path]))
        for split, (archive, images) in _splits(settings, trainval, test, writer).items():
            add_pictures(writer, _pictures(split, archive, images, settings.difficult), settings.size)


def _splits(
    settings: VocSettings, trainval: Archive, test: Archive, writer: DatasetWriter
) -> dict[str, tuple[Archive, list[str]]]:
    tested = image_set(test, "test")
    if settings.split == "official":
        train, val = image_set(trainval, "train"), image_set(trainval, "val")
        return {"train": (trainval, train), "val": (trainval, val), "test": (test, tested)}
    both = image_set(trainval, "trainval")
    if settings.split == "trainval":
        writer.note(f"Validation: {settings.val:.0%} of trainval, at random.")
        parts = _drawn(both, {"train": 1 - settings.val, "val": settings.val}, settings.seed)
        return {"train": (trainval, parts["train"]), "val": (trainval, parts["val"]), "test": (test, tested)}
    writer.note("comprehensive: validation and test are random halves of the official test images.")
    halves = _drawn(tested, {"val": 0.5, "test": 0.5}, settings.seed)
    return {"train": (trainval, both), "val": (test, halves["val"]), "test": (test, halves["test"])}


def _drawn(images: list[str], shares: dict[str, float], seed: int) -> dict[str, list[str]]:
    names = assign(len(images), shares, seed)
    return {
        split: [image for image, name in zip(images, names, strict=True) if name == split] for split in shares
    }


def image_set(archive: Archive, name: str) -> list[str]:
    """The image numbers of an official list."""
    return [
        line.split()[0] for line in text_lines(archive, f"{ROOT}/ImageSets/Main/{name}.txt") if line.strip()
    ]


def image_labels(archive: Archive, image: str, difficult: bool) -> list[str]:
    """The classes of one image, from its annotation."""
    name = f"{ROOT}/Annotations/{image}.xml"
    return object_classes(read_member(archive, name), f"{archive.path}:{name}", difficult)


def _pictures(split: str, archive: Archive, images: list[str], difficult: bool) -> Iterator[Picture]:
    for image in images:
        name = f"{ROOT}/JPEGImages/{image}.jpg"
        labels = image_labels(archive, image, difficult)
        yield Picture(split, image, labels, read_member(archive, name), f"{archive.path}:{name}")


SOURCE = Source(
    about=ABOUT,
    modality="image",
    settings=VocSettings,
    files=lambda settings: (TRAINVAL, TEST),
    prepare=prepare,
)
