"""The user's own images in a folder or archive, labelled by a table, a COCO json, or VOC xml files."""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING

from pydantic import Field

from data_prep.errors import DataError
from data_prep.readers.archives import open_archive, read_member
from data_prep.readers.coco import CocoLabels, read_instances
from data_prep.readers.image_names import ImageNames
from data_prep.readers.images import SUFFIXES, OnDamaged, add_pictures
from data_prep.readers.labels import by_frequency, normal_form
from data_prep.readers.lines import lines, opened
from data_prep.readers.tables import as_text, cell
from data_prep.readers.voc import object_classes
from data_prep.source import Modality, RawPaths, Source
from data_prep.sources._own import (
    ALL,
    TABLE_SETTINGS,
    UNUSED,
    LabelColumns,
    check_label_settings,
    final_splits,
    labelled_rows,
    own_about,
    own_files,
    refuse_unused,
)
from data_prep.sources._own_images import NamedImage, pictures
from data_prep.unknown_labels import UnknownLabels

if TYPE_CHECKING:
    from data_prep.writer import DatasetWriter

OF_TABLES = (*TABLE_SETTINGS, "file")
OF_COCO = ("val_coco", "test_coco", "val_folder", "test_folder")
LISTS = ("train_list", "val_list", "test_list")


class ImagesSettings(LabelColumns):
    """The folder (or archive) of images, and one of three kinds of labels."""

    folder: str = Field(description="folder, zip or tar of images")
    val_folder: str = Field(default="", description="that of val_coco's images, where it is another one")
    test_folder: str = Field(default="", description="that of test_coco's images, where it is another one")
    table: str = Field(default="", description="a table with a column of file names, and label columns")
    file: str = Field(default="file", description="that column")
    coco: str = Field(
        default="", description="or: a COCO instances json; of the training images with test_coco"
    )
    val_coco: str = Field(default="", description="a COCO instances json of the validation images")
    test_coco: str = Field(default="", description="a COCO instances json of the test images")
    voc: str = Field(
        default="", description="or: a folder of VOC xml files, one for each image, of the same path or stem"
    )
    train_list: str = Field(
        default="", description="coco or voc: a text file with a training image's name in each line"
    )
    val_list: str = Field(default="", description="the same for validation images")
    test_list: str = Field(default="", description="the same for test images; the others are for training")
    difficult: bool = Field(
        default=False, description="whether VOC objects marked difficult count as present"
    )
    size: int = Field(default=224, ge=8, le=1024, description="height and width of the stored images")
    on_damaged: OnDamaged = Field(
        default="error", description="images that are missing or damaged: an error, or left out and counted"
    )


def modality(settings: ImagesSettings) -> Modality:
    """Images. Raises DataError for settings that do not go together or have no effect."""
    if sum(map(bool, (settings.table, settings.coco, settings.voc))) != 1:
        raise DataError("images: say one of table, coco and voc: where the labels are")
    if settings.table:
        check_label_settings(settings)
        refuse_unused(settings, ("difficult", *OF_COCO, *LISTS), "the labels are in a table")
    elif settings.coco:
        refuse_unused(settings, (*OF_TABLES, "labels", "difficult"), "the labels are in a COCO json")
    else:
        refuse_unused(settings, (*OF_TABLES, *OF_COCO), "the labels are in VOC files")
    if settings.test_coco:
        refuse_unused(settings, LISTS, "test_coco gives the splits")
    elif settings.val_coco or settings.val_folder or settings.test_folder:
        raise DataError("images: val_coco, val_folder and test_folder need test_coco beside them")
    if (settings.train_list or settings.val_list) and not settings.test_list:
        raise DataError("images: train_list and val_list need test_list beside them")
    return "image"


def prepare(settings: ImagesSettings, raw: RawPaths, writer: DatasetWriter) -> None:
    """Write all labelled images."""
    unknown = UnknownLabels(writer)
    if settings.table:
        rows: Iterable[NamedImage] = _from_table(settings, raw, writer, unknown)
    elif settings.coco:
        rows = _from_coco(settings, raw, writer)
    else:
        rows = _from_voc(settings, raw, writer)
    for folder, group in _by_folder(settings, rows).items():
        with open_archive(raw[folder]) as archive:
            add_pictures(writer, pictures(archive, group), settings.size, settings.on_damaged)
    if settings.table:
        unknown.write()


def _by_folder(settings: ImagesSettings, rows: Iterable[NamedImage]) -> dict[str, list[NamedImage]]:
    """The images that lie in each folder; those of no split are left out."""
    folders = {"val": settings.val_folder, "test": settings.test_folder}
    found: dict[str, list[NamedImage]] = {}
    for row in rows:
        if row.split != UNUSED:
            found.setdefault(folders.get(row.split) or settings.folder, []).append(row)
    return found


def _from_table(
    settings: ImagesSettings, raw: RawPaths, writer: DatasetWriter, unknown: UnknownLabels
) -> Iterator[NamedImage]:
    for item in labelled_rows(settings, {ALL: raw[settings.table]}, writer):
        name = as_text(cell(item.row, settings.file, item.where), item.where, settings.file)
        row_id = item.row_id if settings.id else name
        unknown.note(row_id, item.labels, item.unknown)
        yield NamedImage(item.split, row_id, item.labels, name, item.where)


def _from_coco(settings: ImagesSettings, raw: RawPaths, writer: DatasetWriter) -> Iterator[NamedImage]:
    annotations = {split: _read_coco(raw[path], writer) for split, path in _coco_files(settings).items()}
    first = next(iter(annotations.values()))
    for split, part in annotations.items():
        if different := set(part.names) ^ set(first.names):
            raise DataError(
                f"{raw[_coco_files(settings)[split]]}: its categories differ from those of {raw[settings.coco]}: "
                f"{min(different)!r} is in one of them only"
            )
    writer.labels(first.names)
    rows = [(split, image, part) for split, part in annotations.items() for image in part.files]
    labels = [part.labels(image) for _, image, part in rows]
    given = [split for split, _, _ in rows]
    if settings.test_list:
        given = _listed_splits(settings, raw, [part.files[image] for _, image, part in rows])
    splits = final_splits(settings, given, labels, writer)
    prefixed = bool(settings.val_folder or settings.test_folder)
    for (part_name, image, part), split, row_labels in zip(rows, splits, labels, strict=True):
        name = part.files[image]
        yield NamedImage(split, f"{part_name}/{name}" if prefixed else name, row_labels, name, "")


def _coco_files(settings: ImagesSettings) -> dict[str, str]:
    if not settings.test_coco:
        return {ALL: settings.coco}
    named = {"train": settings.coco, "val": settings.val_coco, "test": settings.test_coco}
    return {split: path for split, path in named.items() if path}


@contextmanager
def _coco_file(path: Path) -> Iterator[IO[bytes]]:
    """A json, also gzipped, or the one in a zip."""
    if path.is_dir() or not zipfile.is_zipfile(path):
        with opened(path) as file:
            yield file
        return
    with open_archive(path) as archive:
        found = [
            name for name in archive.names() if name.lower().endswith(".json") and "__MACOSX" not in name
        ]
        if len(found) != 1:
            listed = f": {', '.join(sorted(found)[:5])}" if found else ""
            raise DataError(f"{path}: must hold one json, holds {len(found)}{listed}; unpack the one to read")
        with archive.open(found[0]) as file:
            yield file


def _read_coco(path: Path, writer: DatasetWriter) -> CocoLabels:
    with _coco_file(path) as file:
        coco = read_instances(file, str(path))
    for kind, example in coco.warnings:
        writer.warn(kind, example)
    writer.read(path, len(coco.files))
    return coco


def _from_voc(settings: ImagesSettings, raw: RawPaths, writer: DatasetWriter) -> Iterator[NamedImage]:
    """Every image of the folder that has an annotation; the others are counted."""
    found: dict[str, list[str]] = {}
    with ExitStack() as stack:
        annotations = stack.enter_context(open_archive(raw[settings.voc]))
        images = stack.enter_context(open_archive(raw[settings.folder]))
        # Annotations may lie beside the images: they are no images.
        pictured = [name for name in images.names() if not _is_xml(name)]
        xmls = [name for name in annotations.names() if _is_xml(name)]
        files = _annotations(pictured, xmls, settings.voc)
        for image in pictured:
            name = files.get(image)
            if name is None:
                writer.warn("images without an annotation are left out", image)
                continue
            xml = read_member(annotations, name)
            found[image] = object_classes(xml, f"{annotations.path}:{name}", settings.difficult)
    for name in sorted(set(xmls) - set(files.values())):
        writer.warn("annotations without an image are left out", name)
    writer.read(raw[settings.voc], len(found))
    if not found:
        raise DataError(
            f"images: no annotation in voc: {settings.voc} has the path or the name of an image in {settings.folder}"
        )
    counts = Counter(normal_form(label) for labels in found.values() for label in labels)
    if not counts:
        raise DataError(
            f"images: no annotation in voc: {settings.voc} has an object that counts (see difficult)"
        )
    writer.labels(settings.labels or by_frequency(counts))
    given = [ALL] * len(found)
    if settings.test_list:
        given = _listed_splits(settings, raw, list(found))
    splits = final_splits(settings, given, list(found.values()), writer)
    for split, (image, labels) in zip(splits, found.items(), strict=True):
        yield NamedImage(split, image, labels, image, "")


def _listed_splits(settings: ImagesSettings, raw: RawPaths, images: list[str]) -> list[str]:
    """The split of each image, by the lists; those of no list are for training where no list says so."""
    names = ImageNames(images, settings.coco or settings.voc)
    split_of: dict[str, str] = {}
    for split, setting in zip(("train", "val", "test"), LISTS, strict=True):
        if not (path := getattr(settings, setting)):
            continue
        for where, line in lines(raw[path]):
            if not line.strip():
                continue
            try:
                image = names.find(line.strip())
            except DataError as error:
                raise DataError(f"{where}: {error}") from None
            if split_of.setdefault(image, split) != split:
                raise DataError(f"{where}: {image} is in the lists of {split_of[image]} and of {split}")
    rest = UNUSED if settings.train_list else "train"
    return [split_of.get(image, rest) for image in images]


def _is_xml(name: str) -> bool:
    return name.lower().endswith(".xml")


def _annotations(images: list[str], files: list[str], where: str) -> dict[str, str]:
    """Image -> annotation: the one of the same path but for the suffix, for what is left the one of the same stem.

    Raises DataError where several fit: in each of several folders, names may count from 1.
    """
    found: dict[str, str] = {}
    for key in (lambda name: str(_without_suffix(name)), lambda name: _without_suffix(name).name):
        used = set(found.values())
        left = _grouped((image for image in images if image not in found), key)
        free = _grouped((file for file in files if file not in used), key)
        for name in filter(free.__contains__, left):
            if len(left[name]) + len(free[name]) > 2:
                raise DataError(
                    f"images: it is not clear which annotation of voc: {where} belongs to which image: "
                    f"{', '.join(free[name][:2])} and {', '.join(left[name][:2])}; give each image one "
                    "annotation, in the same subfolder, and name folders that hold nothing else"
                )
            found[left[name][0]] = free[name][0]
    return found


def _without_suffix(name: str) -> PurePosixPath:
    """`a/1` for `a/1.jpg`, `a/1.xml`, and for `a/1.jpg.xml`, as some tools call the annotation of `a/1.jpg`."""
    path = PurePosixPath(name).with_suffix("")
    return path.with_suffix("") if _is_xml(name) and path.suffix.lower() in SUFFIXES else path


def _grouped(names: Iterable[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(key(name), []).append(name)
    return groups


SOURCE = Source(
    about=lambda settings: own_about(settings, settings.folder),
    modality=modality,
    settings=ImagesSettings,
    files=lambda settings: own_files(
        *(getattr(settings, name) for name in ("folder", "table", "coco", "voc", *OF_COCO, *LISTS))
    ),
    folder=lambda settings: "",
    prepare=prepare,
)
