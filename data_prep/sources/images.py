"""The user's own images in a folder, labelled by a COCO json or by VOC xml files (by a table: source `table`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from data_prep.errors import DataError
from data_prep.readers.archives import Archive, open_archive, read_member
from data_prep.readers.coco import read_instances
from data_prep.readers.images import Picture, add_pictures
from data_prep.readers.tables import cell
from data_prep.readers.voc import object_classes
from data_prep.source import RawPaths, Source
from data_prep.sources._own import (
    LabelColumns,
    labelled_rows,
    own_about,
    own_files,
    splits_of,
)

if TYPE_CHECKING:
    from data_prep.writer import DatasetWriter


class ImagesSettings(LabelColumns):
    """The folder (or archive) of images, and one of three kinds of labels."""

    folder: str = Field(description="folder, zip or tar of images")
    table: str = Field(default="", description="a table with a column of file names, and label columns")
    file: str = Field(default="file", description="that column")
    coco: str = Field(default="", description="or: a COCO instances json")
    voc: str = Field(
        default="", description="or: a folder of VOC xml files, one for each image, of the same stem"
    )
    difficult: bool = Field(
        default=False, description="whether VOC objects marked difficult count as present"
    )
    size: int = Field(default=224, ge=8, le=1024, description="height and width of the stored images")


def prepare(settings: ImagesSettings, raw: RawPaths, writer: DatasetWriter) -> None:
    """Write all labelled images, split at random or by the table's split column."""
    if sum(map(bool, (settings.table, settings.coco, settings.voc))) != 1:
        raise DataError("images: say one of table, coco and voc: where the labels are")
    if settings.table:
        rows = _from_table(settings, raw, writer)
    else:
        named = _from_coco(raw[settings.coco], writer) if settings.coco else _from_voc(settings, raw, writer)
        splits = splits_of(settings, "all", len(named), ["all"])
        rows = [(split, file, labels) for split, (file, labels) in zip(splits, named.items(), strict=True)]
    with open_archive(raw[settings.folder]) as archive:
        add_pictures(writer, _pictures(archive, rows), settings.size)


def _from_table(
    settings: ImagesSettings, raw: RawPaths, writer: DatasetWriter
) -> list[tuple[str, str, list[str]]]:
    found = labelled_rows(settings, {"all": raw[settings.table]}, writer)
    return [(item.split, str(cell(item.row, settings.file, item.where)), item.labels) for item in found]


def _from_coco(path: Path, writer: DatasetWriter) -> dict[str, list[str]]:
    with path.open("rb") as file:
        found = read_instances(file, str(path))
    writer.labels(found.categories[number] for number in sorted(found.categories))
    return {name: found.labels(image) for image, name in found.files.items()}


def _from_voc(settings: ImagesSettings, raw: RawPaths, writer: DatasetWriter) -> dict[str, list[str]]:
    """Every image of the folder that has an annotation; the others are counted."""
    with open_archive(raw[settings.voc]) as annotations, open_archive(raw[settings.folder]) as images:
        files = {Path(name).stem: name for name in annotations.names() if name.endswith(".xml")}
        found: dict[str, list[str]] = {}
        for image in images.names():
            name = files.get(Path(image).stem)
            if name is None:
                writer.warn("images without an annotation are left out", image)
                continue
            xml = read_member(annotations, name)
            found[image] = object_classes(xml, f"{annotations.path}:{name}", settings.difficult)
    counts = Counter(label for labels in found.values() for label in labels)
    writer.labels(settings.labels or sorted(counts, key=lambda label: (-counts[label], label)))
    return found


def _pictures(archive: Archive, rows: list[tuple[str, str, list[str]]]) -> Iterator[Picture]:
    for split, file, labels in rows:
        yield Picture(split, file, labels, read_member(archive, file), f"{archive.path}:{file}")


SOURCE = Source(
    about=lambda settings: own_about(settings, settings.folder),
    modality="image",
    settings=ImagesSettings,
    files=lambda settings: own_files(settings.folder, settings.table, settings.coco, settings.voc),
    folder=lambda settings: "",
    prepare=prepare,
)
