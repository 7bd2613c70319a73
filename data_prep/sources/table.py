"""The user's own texts or images in a table: CSV, TSV, JSON Lines or Parquet.

A column holds the text, or the name of an image file; labels are columns of 0 and 1, or one column of lists.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic import Field

from data_prep.errors import DataError
from data_prep.readers.archives import open_archive
from data_prep.readers.images import OnDamaged, add_pictures
from data_prep.readers.tables import as_text, cell
from data_prep.readers.text import Cleaning, clean
from data_prep.source import Modality, RawPaths, Source
from data_prep.sources._own import (
    LabelColumns,
    OwnRow,
    labelled_rows,
    own_about,
    own_files,
    parts,
    refuse_unused,
)
from data_prep.sources._own_images import NamedImage, pictures
from data_prep.unknown_labels import UnknownLabels

if TYPE_CHECKING:
    from data_prep.writer import DatasetWriter


class TableSettings(LabelColumns):
    """Where the table is and what its columns mean."""

    path: str = Field(description="the table; its training rows where test_path is given")
    test_path: str = Field(default="", description="a table of test rows")
    val_path: str = Field(default="", description="a table of validation rows")
    text: str = Field(default="", description="the column with the text")
    file: str = Field(default="", description="or: the column with the name of an image file in the folder")
    folder: str = Field(default="", description="folder, zip or tar where those files lie")
    cleaning: Cleaning = Field(
        default="plain", description="of the text: plain, or comprehensive (ASCII, lower case)"
    )
    size: int = Field(default=224, ge=8, le=1024, description="height and width of the stored images")
    on_damaged: OnDamaged = Field(
        default="error", description="images that are missing or damaged: an error, or left out and counted"
    )


def modality(settings: TableSettings) -> Modality:
    """Texts or images, by the column that is named; raises DataError unless it is exactly one."""
    if bool(settings.text) == bool(settings.file):
        raise DataError(
            "table: say either text (the column with the text) or file (the column with image files)"
        )
    if settings.file and not settings.folder:
        raise DataError("table: file needs folder: where the image files lie")
    if settings.text:
        refuse_unused(settings, ("folder", "size", "on_damaged"), "it is of images, and the rows are texts")
    else:
        refuse_unused(settings, ("cleaning",), "it is of texts, and the rows are images")
    return "text" if settings.text else "image"


def prepare(settings: TableSettings, raw: RawPaths, writer: DatasetWriter) -> None:
    """Write the rows in the table's order."""
    tables = parts(settings.path, settings.val_path, settings.test_path, dict(raw))
    if settings.split and settings.test_path:
        raise DataError(
            "table: splits are given twice, by the column split and by test_path; give one of them"
        )
    unknown = UnknownLabels(writer)
    rows = labelled_rows(settings, tables, writer)
    if settings.text:
        for item in rows:
            unknown.note(item.row_id, item.labels, item.unknown)
            text = as_text(cell(item.row, settings.text, item.where), item.where, settings.text)
            cleaned = clean(text, settings.cleaning)
            writer.split(item.split).add(item.row_id, item.labels, cleaned, where=item.where)
    else:
        named = _named_images(settings, rows, unknown)
        with open_archive(raw[settings.folder]) as archive:
            add_pictures(writer, pictures(archive, named), settings.size, settings.on_damaged)
    unknown.write()


def _named_images(
    settings: TableSettings, rows: Iterator[OwnRow], unknown: UnknownLabels
) -> Iterator[NamedImage]:
    for item in rows:
        unknown.note(item.row_id, item.labels, item.unknown)
        name = as_text(cell(item.row, settings.file, item.where), item.where, settings.file)
        yield NamedImage(item.split, item.row_id, item.labels, name, item.where)


SOURCE = Source(
    about=lambda settings: own_about(settings, settings.path),
    modality=modality,
    settings=TableSettings,
    files=lambda settings: own_files(settings.path, settings.val_path, settings.test_path, settings.folder),
    folder=lambda settings: "",
    prepare=prepare,
)
