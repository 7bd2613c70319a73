"""The user's own vectors: a table with a column for each feature, or .npy arrays."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from data_prep.errors import DataError
from data_prep.readers.arrays import UNREADABLE, is_numeric_matrix
from data_prep.readers.numbers import finite
from data_prep.readers.tables import Row, cell
from data_prep.source import Modality, RawPaths, Source
from data_prep.sources._own import (
    ADVICE_ON_MISSING_LABEL,
    TABLE_SETTINGS,
    LabelColumns,
    final_splits,
    labelled_rows,
    own_about,
    own_files,
    parts,
    refuse_unused,
    splits_in_file,
)
from data_prep.unknown_labels import UnknownLabels

if TYPE_CHECKING:
    import numpy as np

    from data_prep.writer import DatasetWriter

MissingValues = Literal["error", "zero", "mean", "median"]
OF_TABLES = (*(name for name in TABLE_SETTINGS if name not in ("na_values", "on_missing_label")), "features")
OF_ARRAYS = ("labels_path", "val_labels_path", "test_labels_path", "split_path")
MAX_COLUMNS = 100_000


class VectorsSettings(LabelColumns):
    """Where features and labels are, and what becomes of missing values."""

    path: str = Field(
        description="a table, or an .npy array (rows, features); of training rows with test_path"
    )
    test_path: str = Field(default="", description="the same for test rows")
    val_path: str = Field(default="", description="the same for validation rows")
    features: list[str] = Field(
        default=[], description="columns of numbers; without it all but those of labels, id and split"
    )
    labels_path: str = Field(
        default="",
        description="with .npy: an array of 0 and 1 (rows, labels), NaN or one of na_values where a label is missing; "
        "labels names its columns",
    )
    test_labels_path: str = Field(default="", description="the same for test rows")
    val_labels_path: str = Field(default="", description="the same for validation rows")
    split_path: str = Field(
        default="", description="with .npy: a text file with train, val or test for each row of path"
    )
    missing_values: MissingValues = Field(
        default="error",
        description="empty or not-a-number features: an error, 0, or the mean or median of the training rows",
    )


def modality(settings: VectorsSettings) -> Modality:
    """Vectors. Raises DataError for settings that do not go together or have no effect."""
    if settings.test_path == "" and settings.val_path:
        raise DataError("vectors: val_path needs test_path beside it")
    if not _is_array(settings):
        refuse_unused(settings, OF_ARRAYS, "it is of .npy arrays, and path is a table")
        if settings.split and settings.test_path:
            raise DataError(
                "vectors: splits are given twice, by the column split and by test_path; give one of them"
            )
        return "vector"
    refuse_unused(settings, OF_TABLES, "it is of tables, and path is an .npy array")
    if not settings.labels_path:
        raise DataError("vectors: an .npy array needs labels_path, an array of 0 and 1 (rows, labels)")
    if bool(settings.test_path) != bool(settings.test_labels_path) or bool(settings.val_path) != bool(
        settings.val_labels_path
    ):
        raise DataError(
            "vectors: each array of features needs its array of labels (test_labels_path, val_labels_path)"
        )
    if settings.split_path and settings.test_path:
        raise DataError("vectors: splits are given twice, by split_path and by test_path; give one of them")
    return "vector"


def prepare(settings: VectorsSettings, raw: RawPaths, writer: DatasetWriter) -> None:
    """Write the rows in the files' order."""
    unknown = UnknownLabels(writer)
    read = _from_arrays if _is_array(settings) else _from_table
    rows = read(settings, raw, writer, unknown)
    if settings.missing_values in ("mean", "median"):
        _write_filled(settings, list(rows), writer)
    else:
        for split, row_id, labels, vector, where in rows:
            vector = _without_missing(vector, settings, where, writer)
            writer.split(split).add(row_id, labels, vector, where=where)
    unknown.write()


VectorRow = tuple[str, str, tuple[str, ...], "np.ndarray", str]
"""Split, id, labels, features as float64 with NaN where a value is missing, place."""


def _without_missing(
    vector: np.ndarray, settings: VectorsSettings, where: str, writer: DatasetWriter
) -> np.ndarray:
    import numpy as np

    missing = np.isnan(vector)
    if not missing.any():
        return vector
    if settings.missing_values == "error":
        raise DataError(
            f"{where}: feature {int(np.flatnonzero(missing)[0])} (from 0) has no value; set missing_values: zero, mean "
            "or median"
        )
    writer.warn("rows with missing features, read as 0", where)
    return np.where(missing, 0.0, vector)


def _write_filled(settings: VectorsSettings, rows: list[VectorRow], writer: DatasetWriter) -> None:
    """Missing features become the mean or median of the training rows: the others may tell nothing."""
    import numpy as np

    training = np.array([vector for split, _, _, vector, _ in rows if split == "train"])
    if not len(training):
        raise DataError("split 'train' is empty; every split needs at least one example")
    known = ~np.isnan(training)
    if not (columns := known.any(axis=0)).all():
        raise DataError(
            f"feature {int(np.flatnonzero(~columns)[0])} (from 0) has no value in any training row; leave it out"
        )
    filling = (
        np.nanmean(training, axis=0) if settings.missing_values == "mean" else np.nanmedian(training, axis=0)
    )
    for split, row_id, labels, vector, where in rows:
        if np.isnan(vector).any():
            writer.warn(
                f"rows with missing features, read as the {settings.missing_values} of the training rows",
                where,
            )
        writer.split(split).add(row_id, labels, np.where(np.isnan(vector), filling, vector), where=where)


def _from_table(
    settings: VectorsSettings, raw: RawPaths, writer: DatasetWriter, unknown: UnknownLabels
) -> Iterator[VectorRow]:
    import numpy as np

    files = parts(settings.path, settings.val_path, settings.test_path, dict(raw))
    columns: list[str] | None = None
    for item in labelled_rows(settings, files, writer):
        if columns is None:
            columns = _feature_columns(settings, item.row, item.where)
            writer.note(
                f"Features: {len(columns)} columns, {', '.join(columns[:5])}{', ...' if columns[5:] else ''}."
            )
        if not settings.features and (other := set(item.row) ^ {*columns, *_other_columns(settings)}):
            raise DataError(f"{item.where}: column {min(other)!r} is not in every row")
        numbers = [_number(cell(item.row, name, item.where), name, settings, item.where) for name in columns]
        unknown.note(item.row_id, item.labels, item.unknown)
        yield item.split, item.row_id, item.labels, np.array(numbers), item.where


def _other_columns(settings: VectorsSettings) -> list[str]:
    return [
        name for name in (*settings.label_columns, settings.label_list, settings.id, settings.split) if name
    ]


def _feature_columns(settings: VectorsSettings, row: Row, where: str) -> list[str]:
    others = _other_columns(settings)
    if settings.features:
        if len(set(settings.features)) < len(settings.features):
            raise DataError(f"vectors: features names {_twice(settings.features)!r} twice")
        if both := set(settings.features) & set(others):
            raise DataError(
                f"vectors: column {min(both)!r} cannot be a feature and a label, an id or a split"
            )
        return settings.features
    columns = [name for name in row if name not in others]
    if not columns:
        raise DataError(f"{where}: there are no columns of features")
    if len(columns) > MAX_COLUMNS:
        raise DataError(f"{where}: {len(columns)} features are too many (at most {MAX_COLUMNS})")
    return columns


def _twice(names: list[str]) -> str:
    return next(name for name in names if names.count(name) > 1)


def _number(value: Any, column: str, settings: VectorsSettings, where: str) -> float:
    """A feature; NaN where it has no value."""
    if value is None or (
        isinstance(value, str) and (not value.strip() or value.strip() in settings.na_values)
    ):
        return math.nan
    number = finite(str(value)) if isinstance(value, str | int | float) else None
    if number is None and isinstance(value, float) and math.isnan(value):
        return math.nan
    if number is None:
        raise DataError(
            f"{where}: column {column!r} is {str(value)[:40]!r}, expected a finite number; features names the columns "
            "to read, na_values texts that stand for a missing value"
        )
    return number


def _from_arrays(
    settings: VectorsSettings, raw: RawPaths, writer: DatasetWriter, unknown: UnknownLabels
) -> Iterator[VectorRow]:
    import numpy as np

    files = parts(settings.path, settings.val_path, settings.test_path, dict(raw))
    label_files = parts(settings.labels_path, settings.val_labels_path, settings.test_labels_path, dict(raw))
    arrays = {name: _array(path, "features") for name, path in files.items()}
    targets = {name: _array(path, "labels") for name, path in label_files.items()}
    width = next(iter(targets.values())).shape[1]
    names = settings.labels or [f"label {number}" for number in range(width)]
    if len(names) != width:
        raise DataError(f"{raw[settings.labels_path]}: has {width} columns, labels names {len(names)}")
    labels: list[tuple[str, ...] | None] = []
    missing: list[tuple[str, ...]] = []
    for name, target in targets.items():
        if target.shape != (len(arrays[name]), width):
            raise DataError(
                f"{label_files[name]}: has the shape {target.shape}, expected {(len(arrays[name]), width)}"
            )
        without_value = np.isnan(target) | np.isin(target, _missing_numbers(settings))
        if (wrong := ~np.isin(target, (0, 1)) & ~without_value).any():
            row, column = np.argwhere(wrong)[0]
            raise DataError(
                f"{label_files[name]}: row {row}, column {column} is {target[row, column]}, expected 0 or 1 (na_values "
                "lists numbers that stand for a missing label)"
            )
        if without_value.any() and settings.on_missing_label == "error":
            row, column = np.argwhere(without_value)[0]
            raise DataError(
                f"{label_files[name]}: row {row}, column {column} is {target[row, column]}, a missing label; "
                f"{ADVICE_ON_MISSING_LABEL}"
            )
        for row, gaps in zip((target == 1) & ~without_value, without_value, strict=True):
            left_out = settings.on_missing_label == "skip" and gaps.any()
            labels.append(None if left_out else tuple(names[column] for column in np.flatnonzero(row)))
            ignored = settings.on_missing_label == "ignore"
            missing.append(tuple(names[column] for column in np.flatnonzero(gaps)) if ignored else ())
        writer.read(files[name], len(arrays[name]))
    writer.labels(names)
    given = [name for name, array in arrays.items() for _ in range(len(array))]
    if settings.split_path:
        given = splits_in_file(raw[settings.split_path], len(given))
    kept = [(split, found) for split, found in zip(given, labels, strict=True) if found is not None]
    splits = iter(final_splits(settings, [split for split, _ in kept], [found for _, found in kept], writer))
    places = ((name, number) for name, array in arrays.items() for number in range(len(array)))
    for row_labels, gaps, (name, number) in zip(labels, missing, places, strict=True):
        where, row_id = f"{files[name]}: row {number}", f"{name}-{number}"
        if row_labels is None:
            writer.warn("rows left out: a label is missing", where)
            continue
        unknown.note(row_id, row_labels, gaps)
        yield next(splits), row_id, row_labels, np.asarray(arrays[name][number], dtype=np.float64), where


def _missing_numbers(settings: VectorsSettings) -> list[float]:
    """The numbers in `na_values`, which stand for a missing label. Raises DataError for a text that is none."""
    numbers = {text: finite(text) for text in settings.na_values}
    for text, number in numbers.items():
        if number is None:
            raise DataError(
                f"vectors: na_values: {text!r} is no finite number, and the labels are an array (NaN is always missing)"
            )
    return [number for number in numbers.values() if number is not None]


def _array(path: Path, what: str) -> np.ndarray:
    import numpy as np

    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except UNREADABLE as error:
        raise DataError(f"{path}: cannot be read as an .npy array ({str(error)[:200]})") from None
    if not is_numeric_matrix(array) or not array.size:
        form = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else "several arrays"
        raise DataError(f"{path}: holds {form}; expected numbers of the shape (rows, {what})")
    return array


def _is_array(settings: VectorsSettings) -> bool:
    kinds = {
        Path(path).suffix.lower() == ".npy"
        for path in (settings.path, settings.val_path, settings.test_path)
        if path
    }
    if len(kinds) > 1:
        raise DataError("vectors: path, val_path and test_path must all be tables or all be .npy arrays")
    return kinds == {True}


SOURCE = Source(
    about=lambda settings: own_about(settings, settings.path),
    modality=modality,
    settings=VectorsSettings,
    files=lambda settings: own_files(
        *(getattr(settings, name) for name in ("path", "val_path", "test_path", *OF_ARRAYS))
    ),
    folder=lambda settings: "",
    prepare=prepare,
)
