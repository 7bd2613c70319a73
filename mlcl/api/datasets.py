"""Prepared datasets from what is at hand in Python: a name, arrays, texts, a DataFrame."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import data_prep
from data_prep import DataError
from mlcl.cache import cache_folder
from mlcl.data import PreparedDataset, open_dataset
from mlcl.records.paths import prepared
from mlcl.study.plan import DATA_ROOT_VARIABLE, DEFAULT_DATA_ROOT

if TYPE_CHECKING:
    import pandas as pd

TEXT = "text of the row"
"""The column of the table that texts are handed over in; the others are labels."""


def prepare(
    data: Any,
    labels: Any = None,
    *,
    text: str | None = None,
    split: Any = None,
    label_names: Sequence[str] | None = None,
    data_root: str | Path | None = None,
    **settings: Any,
) -> PreparedDataset:
    """A prepared dataset. It is kept, by its content: the second call opens what the first one made.

    Args:
        data: the name of a dataset (`digit_scenes`; `settings` are those of its source), the folder of a prepared one,
            an array (N, F) of vectors, a list of N texts, or a DataFrame.
        labels: with arrays and texts (N, L) of 0 and 1, or for each row its label names; with a DataFrame the columns
            of 0 and 1, or the one column that holds lists of label names.
        text: with a DataFrame, the column of texts. Without it the other columns are the features of a vector.
        split: for each row `train`, `val` or `test`; with a DataFrame also the name of that column. Without it splits
            are drawn: `val` (0.1) and `test` (0.2) are shares of the rows, `seed` (0) and `stratify` (True) say how.
        label_names: of the columns of `labels`, where they have no names.
        data_root: where raw files lie. Default: $MLCL_DATA_ROOT, else `raw`.

    Known datasets are looked for in `results/.prepared`, where studies keep theirs; others are kept in the cache
    folder ($MLCL_CACHE). Raises DataError for what cannot be read, naming the row or setting.
    """
    if isinstance(data, PreparedDataset):
        return data
    if isinstance(data, Path) or (isinstance(data, str) and (Path(data) / "card.json").is_file()):
        return open_dataset(data)
    if isinstance(data, str):
        root = data_root or os.environ.get(DATA_ROOT_VARIABLE) or DEFAULT_DATA_ROOT
        return _prepare(data, settings, Path(root))
    rows = _rows(data, labels, text, split, label_names)
    with tempfile.TemporaryDirectory() as folder:
        source, files = rows.write(Path(folder))
        return _prepare(source, {"title": "data in memory"} | settings | files, Path(folder))


def _prepare(source: str, settings: Mapping[str, Any], data_root: Path) -> PreparedDataset:
    recipe = data_prep.plan(source, settings, data_root, accept_local=False)
    folder = prepared(source, recipe.fingerprint)
    if not folder.exists() and (cache := cache_folder()) is not None:
        folder = cache / "prepared" / folder.name
    data_prep.prepare(recipe, data_root, folder)
    return open_dataset(folder)


@dataclass(frozen=True)
class _Rows:
    """Texts or vectors with labels (N, L) of 0 and 1, their names, and maybe splits."""

    content: list[str] | NDArray[Any]
    labels: NDArray[Any]
    names: list[str]
    splits: list[str] | None

    def write(self, folder: Path) -> tuple[str, dict[str, Any]]:
        """Writes them as files; returns the source that reads these, and its settings."""
        if isinstance(self.content, list):
            return "table", self._write_table(folder)
        np.save(folder / "vectors.npy", self.content)
        np.save(folder / "labels.npy", self.labels)
        settings = {"path": "vectors.npy", "labels_path": "labels.npy", "labels": self.names}
        if self.splits is not None:
            (folder / "splits.txt").write_text("\n".join(self.splits) + "\n", encoding="utf-8")
            settings["split_path"] = "splits.txt"
        return "vectors", settings

    def _write_table(self, folder: Path) -> dict[str, Any]:
        with (folder / "texts.jsonl").open("w", encoding="utf-8") as file:
            for number, (text, present) in enumerate(zip(self.content, self.labels, strict=True)):
                row = {TEXT: text, **dict(zip(self.names, present.tolist(), strict=True))}
                if self.splits is not None:
                    row["split of the row"] = self.splits[number]
                file.write(json.dumps(row) + "\n")
        settings = {"path": "texts.jsonl", "text": TEXT, "label_columns": self.names}
        return settings if self.splits is None else settings | {"split": "split of the row"}


def _rows(data: Any, labels: Any, text: str | None, split: Any, label_names: Sequence[str] | None) -> _Rows:
    if hasattr(data, "columns"):
        return _rows_of_frame(data, labels, text, split)
    if text is not None:
        raise DataError("prepare: text names a column of a DataFrame; the data is none")
    if labels is None:
        raise DataError(
            "prepare: arrays and texts need labels, (rows, labels) of 0 and 1 or a list for each row"
        )
    if label_names is None and hasattr(labels, "columns"):
        label_names = [str(name) for name in labels.columns]
    content = _content(data)
    matrix, names = _labels(labels, label_names)
    splits = None if split is None else [str(each) for each in split]
    for what, count in (("labels", len(matrix)), ("split", len(content if splits is None else splits))):
        if count != len(content):
            raise DataError(f"prepare: {len(content)} rows of data, but {count} of {what}")
    return _Rows(content, matrix, names, splits)


def _rows_of_frame(frame: pd.DataFrame, labels: Any, text: str | None, split: Any) -> _Rows:
    columns = [labels] if isinstance(labels, str) else list(labels if labels is not None else [])
    if not columns:
        raise DataError("prepare: with a DataFrame, labels names the columns of 0 and 1, or the one of lists")
    split_column = split if isinstance(split, str) else None
    for name in [*columns, *filter(None, (text, split_column))]:
        if name not in frame.columns:
            raise DataError(f"prepare: the DataFrame has no column {name!r}; it has {_listed(frame.columns)}")
    values = frame[labels].tolist() if isinstance(labels, str) else frame[columns]
    splits = frame[split_column] if split_column is not None else split
    if text is not None:
        return _rows(frame[text].tolist(), values, None, splits, None)
    features = frame.drop(columns=[*columns, *([split_column] if split_column is not None else [])])
    if unfit := [str(name) for name, kind in features.dtypes.items() if kind.kind not in "biuf"]:
        raise DataError(
            f"prepare: columns that are no numbers: {_listed(unfit)}; name one with text, or drop them"
        )
    return _rows(features.to_numpy(dtype=np.float64), values, None, splits, None)


def _content(data: Any) -> list[str] | NDArray[Any]:
    if hasattr(data, "toarray"):  # of scipy.sparse
        data = data.toarray()
    if not isinstance(data, np.ndarray):
        data = list(data)
        if data and all(isinstance(each, str) for each in data):
            return data
        data = np.asarray(data)
    if data.ndim == 1 and data.dtype.kind in "UOT" and all(isinstance(each, str) for each in data):
        return [str(each) for each in data]
    if data.ndim != 2 or data.dtype.kind not in "biuf":
        raise DataError(
            f"prepare: data of the type {data.dtype} and the shape {data.shape}; expected vectors (rows, features) of "
            "numbers, or texts. Images: the sources 'images' and 'table' read files"
        )
    return np.asarray(data, dtype=np.float64)


def _labels(labels: Any, names: Sequence[str] | None) -> tuple[NDArray[Any], list[str]]:
    """(N, L) of 0 and 1, and the labels' names."""
    if hasattr(labels, "toarray"):
        labels = labels.toarray()
    if isinstance(labels, Sequence) and labels and not isinstance(labels[0], np.ndarray | int):
        by_row = [[each] if isinstance(each, str) else list(each) for each in labels]
        if all(isinstance(name, str) for row in by_row for name in row):
            return _from_names(by_row, names)
    matrix = np.asarray(labels)
    if matrix.ndim != 2 or not np.isin(matrix, (0, 1)).all():
        raise DataError(
            f"prepare: labels of the shape {matrix.shape} hold other values than 0 and 1, or are not (rows, labels)"
        )
    names = list(names) if names is not None else [f"label {number}" for number in range(matrix.shape[1])]
    if len(names) != matrix.shape[1]:
        raise DataError(f"prepare: {len(names)} label_names for {matrix.shape[1]} columns of labels")
    return matrix.astype(np.uint8), names


def _from_names(by_row: list[list[str]], names: Sequence[str] | None) -> tuple[NDArray[Any], list[str]]:
    known = sorted({name for row in by_row for name in row}) if names is None else list(names)
    numbers = {name: number for number, name in enumerate(known)}
    matrix = np.zeros((len(by_row), len(known)), dtype=np.uint8)
    for number, row in enumerate(by_row):
        for name in row:
            if name not in numbers:
                raise DataError(f"prepare: row {number}: the label {name!r} is not among label_names")
            matrix[number, numbers[name]] = 1
    return matrix, known


def _listed(names: Any) -> str:
    shown = [str(name) for name in names]
    return ", ".join(shown[:10]) + (", ..." if shown[10:] else "")
