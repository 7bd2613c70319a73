"""The user's own vectors in ARFF files, labels listed by Mulan's XML or by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from data_prep.errors import DataError
from data_prep.readers.arff import PartlyLabelledArffFile, label_list
from data_prep.source import RawPaths, Source
from data_prep.sources._own import (
    ADVICE_ON_MISSING_LABEL,
    ON_MISSING_LABEL,
    OwnSettings,
    final_splits,
    own_about,
    own_files,
    parts,
    split_name,
)
from data_prep.unknown_labels import OnMissingLabel, UnknownLabels

if TYPE_CHECKING:
    from data_prep.writer import DatasetWriter


class ArffSettings(OwnSettings):
    """Where the files are, and which attributes are labels."""

    path: str = Field(description="the ARFF file; its training rows where test_path is given")
    test_path: str = Field(default="", description="an ARFF file of test rows")
    val_path: str = Field(default="", description="an ARFF file of validation rows")
    xml: str = Field(default="", description="Mulan's list of labels")
    labels: list[str] = Field(default=[], description="or: the names of the attributes that are labels")
    split: str = Field(default="", description="attribute that says train, val or test; it is no feature")
    on_missing_label: OnMissingLabel = Field(default="error", description=ON_MISSING_LABEL)


def prepare(settings: ArffSettings, raw: RawPaths, writer: DatasetWriter) -> None:
    """Write the rows in the files' order."""
    if bool(settings.xml) == bool(settings.labels):
        raise DataError("arff: say either xml (Mulan's list of labels) or labels (names of attributes)")
    if settings.split and settings.test_path:
        raise DataError(
            "arff: splits are given twice, by the attribute split and by test_path; give one of them"
        )
    labels = label_list(raw[settings.xml]) if settings.xml else settings.labels
    writer.labels(labels)
    files = parts(settings.path, settings.val_path, settings.test_path, dict(raw))
    tables = {name: PartlyLabelledArffFile(path, labels, settings.split) for name, path in files.items()}
    first = next(iter(tables.values()))
    given: list[str] = []
    positives: list[list[str]] = []
    for name, table in tables.items():
        first.refuse_other_attributes(table)
        rows = table.labels_and_splits()
        for (where, row_labels, split), unknown in zip(rows, table.unknown, strict=True):
            if unknown and settings.on_missing_label == "error":
                raise DataError(f"{where}: label {unknown[0]} is '?'; {ADVICE_ON_MISSING_LABEL}")
            if unknown and settings.on_missing_label == "skip":
                writer.warn("rows left out: a label is missing", where)
                continue
            given.append(split_name(split, where) if settings.split else name)
            positives.append(row_labels)
        writer.read(table.path, len(rows))
    splits = iter(final_splits(settings, given, positives, writer))
    all_unknown = UnknownLabels(writer)
    for name, table in tables.items():
        for number, (where, vector, row_labels) in enumerate(table.rows()):
            unknown = table.unknown[number]
            if unknown and settings.on_missing_label == "skip":
                continue
            row_id = f"{name}-{number}"
            all_unknown.note(row_id, row_labels, unknown if settings.on_missing_label == "ignore" else ())
            writer.split(next(splits)).add(row_id, row_labels, vector, where=where)
        if table.missing:
            writer.warn(f"missing values in {table.path.name}, read as 0", f"{table.missing} cells")
    all_unknown.write()
    if first.left_out:
        writer.note(f"Left out as identifiers (many nominal values): {', '.join(first.left_out)}.")


SOURCE = Source(
    about=lambda settings: own_about(settings, settings.path),
    modality="vector",
    settings=ArffSettings,
    files=lambda settings: own_files(settings.path, settings.val_path, settings.test_path, settings.xml),
    folder=lambda settings: "",
    prepare=prepare,
)
