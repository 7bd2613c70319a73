"""ChestX-ray14: chest X-rays with 14 findings.

Layout as NIH distributes it: Data_Entry_2017.csv (columns `Image Index`, `Finding Labels` joined by |, `No Finding`
for none, ...), train_val_list.txt, test_list.txt, and images/ (unpacked) or images_001.tar.gz to images_012.tar.gz.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from data_prep.errors import DataError
from data_prep.readers.archives import members
from data_prep.readers.images import ImageSettings, Picture, add_pictures
from data_prep.readers.lines import lines
from data_prep.readers.splits import assign_groups
from data_prep.readers.tables import cell, rows
from data_prep.source import About, RawFile, RawPaths, Source

if TYPE_CHECKING:
    from data_prep.writer import DatasetWriter

ABOUT = About(
    title="ChestX-ray14",
    citation="Wang et al.: ChestX-ray8: Hospital-scale Chest X-ray Database and Benchmarks. CVPR 2017.",
    homepage="https://nihcc.app.box.com/v/ChestXray-NIHCC",
    licence="No restrictions; NIH asks for a link to the download site, the citation and an acknowledgement.",
    by_hand="download Data_Entry_2017.csv, train_val_list.txt, test_list.txt and images_001.tar.gz to "
    "images_012.tar.gz from the homepage",
    published={"labels": 14, "examples": {"train+val": 86524, "test": 25596}},
    published_from="the lists of the distribution; 112,120 images in all",
)
CITATIONS = {"wang2017chestxray8": ""}

FINDINGS = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
)
TABLE = RawFile("Data_Entry_2017.csv")
LISTS = {"train": RawFile("train_val_list.txt"), "test": RawFile("test_list.txt")}
FOLDER = RawFile("images", optional=True)
ARCHIVES = tuple(RawFile(f"images_{number:03d}.tar.gz", optional=True) for number in range(1, 13))


class ChestXraySettings(ImageSettings):
    """Size of the images and validation share."""

    val: float = Field(default=0.1, gt=0, lt=1, description="share of the train_val patients for validation")
    seed: int = Field(default=0, ge=0, description="which patients")


def prepare(settings: ChestXraySettings, raw: RawPaths, writer: DatasetWriter) -> None:
    """Write the official split; validation patients are taken from train_val. Images keep the archives' order."""
    writer.labels(FINDINGS)
    findings = _findings(raw[TABLE.path])
    splits = _splits(settings, raw, findings)
    writer.note(f"Validation: all images of {settings.val:.0%} of the train_val patients, at random.")
    seen: set[str] = set()
    add_pictures(writer, _pictures(raw, splits, findings, seen), settings.size)
    if missing := splits.keys() - seen:
        raise DataError(
            f"{len(missing)} listed images are missing, {min(missing)} for instance; get all twelve archives"
        )


def _findings(path: Path) -> dict[str, list[str]]:
    """Image -> its findings."""
    findings = {}
    for where, row in rows(path):
        labels = str(cell(row, "Finding Labels", where)).split("|")
        if unknown := set(labels) - {*FINDINGS, "No Finding"}:
            raise DataError(f"{where}: finding {min(unknown)!r} is not in the list")
        findings[str(cell(row, "Image Index", where))] = [label for label in labels if label != "No Finding"]
    return findings


def _splits(settings: ChestXraySettings, raw: RawPaths, findings: dict[str, list[str]]) -> dict[str, str]:
    """Image -> its split; images of a patient (the name's first part) stay together."""
    listed = {
        part: [line.strip() for _, line in lines(raw[file.path]) if line.strip()]
        for part, file in LISTS.items()
    }
    for part, images in listed.items():
        if unknown := set(images) - findings.keys():
            raise DataError(f"{raw[LISTS[part].path]}: lists {min(unknown)}, which is not in {TABLE.path}")
    patients = [image.split("_")[0] for image in listed["train"]]
    shares = {"train": 1 - settings.val, "val": settings.val}
    splits = dict(zip(listed["train"], assign_groups(patients, shares, settings.seed), strict=True))
    if shared := splits.keys() & set(listed["test"]):
        raise DataError(f"image {min(shared)} is in both lists")
    return {**splits, **dict.fromkeys(listed["test"], "test")}


def _pictures(
    raw: RawPaths, splits: dict[str, str], findings: dict[str, list[str]], seen: set[str]
) -> Iterator[Picture]:
    sources = (
        [raw[FOLDER.path]]
        if FOLDER.path in raw
        else [raw[file.path] for file in ARCHIVES if file.path in raw]
    )
    if not sources:
        raise DataError("chestxray14: neither images/ nor images_001.tar.gz to images_012.tar.gz are there")
    for path in sources:
        for name, content in members(path, ".png"):
            image = Path(name).name
            if image in splits:
                seen.add(image)
                yield Picture(splits[image], image, findings[image], content, f"{path}:{name}")


SOURCE = Source(
    about=ABOUT,
    modality="image",
    settings=ChestXraySettings,
    files=lambda settings: (TABLE, *LISTS.values(), FOLDER, *ARCHIVES),
    prepare=prepare,
)
