"""Datasets of the `datasets` library: labels in every form, columns of labels, images."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_prep import DataError
from tests.data.own import SPLITS, prepare, rows_of

datasets = pytest.importorskip("datasets")
NAMES = ["anger", "joy", "fear", "trust"]
HOT = np.random.default_rng(0).integers(0, 2, (30, 4))
TEXTS = [f"text number {number}" for number in range(30)]
EXPECTED = {text: [NAMES[bit] for bit in np.flatnonzero(row)] for text, row in zip(TEXTS, HOT, strict=True)}


def save(path: Path, labels: list[Any], feature: Any) -> None:
    features = datasets.Features({"text": datasets.Value("string"), "labels": feature})
    datasets.Dataset.from_dict({"text": TEXTS, "labels": labels}, features=features).save_to_disk(str(path))


@pytest.mark.parametrize(("kind", "form"), [("float32", float), ("int64", int), ("bool", bool)])
def test_vectors_of_zeros_and_ones_need_names(tmp_path: Path, kind: str, form: type) -> None:
    save(tmp_path / "d", [[form(bit) for bit in row] for row in HOT], datasets.Sequence(datasets.Value(kind)))
    with pytest.raises(DataError, match=r"vectors of 4 zeros and ones; name these labels.*label_names"):
        prepare(tmp_path, "huggingface", path="d")
    assert rows_of(prepare(tmp_path, "huggingface", path="d", label_names=NAMES)) == EXPECTED


def test_classes_and_columns_of_labels(tmp_path: Path) -> None:
    classes = [[int(bit) for bit in np.flatnonzero(row)] for row in HOT]
    save(tmp_path / "classes", classes, datasets.Sequence(datasets.ClassLabel(names=NAMES)))
    assert rows_of(prepare(tmp_path, "huggingface", path="classes")) == EXPECTED
    columns = {name: HOT[:, number].astype(bool).tolist() for number, name in enumerate(NAMES)}
    datasets.Dataset.from_dict({"text": TEXTS, **columns}).save_to_disk(str(tmp_path / "columns"))
    assert rows_of(prepare(tmp_path, "huggingface", path="columns", label_columns=NAMES)) == EXPECTED
    save(tmp_path / "missing", [row or [-1] for row in classes], datasets.Sequence(datasets.Value("int64")))
    with pytest.raises(DataError, match=r"label -1 is negative; .* na_values: \['-1'\]"):
        prepare(tmp_path, "huggingface", path="missing")
    found = rows_of(prepare(tmp_path, "huggingface", path="missing", na_values=["-1"]))
    assert {text: [NAMES[int(label)] for label in sorted(row)] for text, row in found.items()} == EXPECTED


def test_splits_whose_classes_differ_are_refused(tmp_path: Path) -> None:
    parts = {}
    for name, names in (("train", ["joy", "fear"]), ("test", ["fear", "joy"])):
        labels = datasets.Sequence(datasets.ClassLabel(names=names))
        features = datasets.Features({"text": datasets.Value("string"), "labels": labels})
        rows = {"text": TEXTS, "labels": [[number % 2] for number in range(30)]}
        parts[name] = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "d"))
    with pytest.raises(
        DataError, match="classes of column 'labels' differ between the splits train and test"
    ):
        prepare(tmp_path, "huggingface", path="d")


def test_a_column_of_images(tmp_path: Path) -> None:
    encoded = []
    for number in range(30):
        file = io.BytesIO()
        Image.new("RGB", (9, 7), (8 * number, 0, 0)).save(file, "PNG")
        encoded.append({"bytes": file.getvalue(), "path": None})
    features = datasets.Features(
        {"photo": datasets.Image(), "labels": datasets.Sequence(datasets.Value("string"))}
    )
    rows = {"photo": encoded, "labels": [["even"] if number % 2 == 0 else ["odd"] for number in range(30)]}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(str(tmp_path / "d"))
    dataset = prepare(tmp_path, "huggingface", path="d", image="photo", size=8)
    for split in SPLITS:
        for pixels, labels in zip(dataset[split].images, dataset[split].dense_labels(), strict=True):
            odd = int(pixels[0, 0, 0]) // 8 % 2
            assert [dataset.label_names[bit] for bit in np.flatnonzero(labels)] == [["even", "odd"][odd]]
    with pytest.raises(DataError, match="'cleaning' has no effect: it is of texts"):
        prepare(tmp_path, "huggingface", path="d", image="photo", cleaning="comprehensive")
