"""Labels that the raw data say nothing about (`on_missing_label: ignore`): from the file to the prepared dataset."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_prep import DataError, sanity
from mlcl.data import PreparedDataset, open_dataset
from tests.data.own import SPLITS, prepare

NAMES = ["a", "b", "c"]
TRUTH = np.random.default_rng(3).choice([0, 1, -1], size=(40, 3), p=[0.5, 0.3, 0.2]).astype(np.int8)
TRUTH[0] = -1  # a row that says nothing at all
IGNORE = {"on_missing_label": "ignore"}


def cells(missing: str, separator: str = ",") -> list[str]:
    return [separator.join({0: "0", 1: "1", -1: missing}[value] for value in row) for row in TRUTH.tolist()]


def of_texts(root: Path) -> tuple[str, dict[str, Any]]:
    rows = [f"row {number},{line}" for number, line in enumerate(cells(""))]
    (root / "t.csv").write_text("\n".join(["text,a,b,c", *rows]), encoding="utf-8")
    return "table", {"path": "t.csv", "text": "text", "label_columns": NAMES}


def of_json_nulls(root: Path) -> tuple[str, dict[str, Any]]:
    rows = [
        {"text": f"row {number}"}
        | {name: None if value < 0 else bool(value) for name, value in zip(NAMES, row, strict=True)}
        for number, row in enumerate(TRUTH.tolist())
    ]
    (root / "t.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return "table", {"path": "t.jsonl", "text": "text", "label_columns": NAMES}


def of_images(root: Path) -> tuple[str, dict[str, Any]]:
    (root / "pictures").mkdir()
    for number in range(len(TRUTH)):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(root / f"pictures/{number}.png")
    rows = [f"{number}.png,{line}" for number, line in enumerate(cells("-1"))]
    (root / "t.csv").write_text("\n".join(["file,a,b,c", *rows]), encoding="utf-8")
    return "images", {
        "folder": "pictures",
        "table": "t.csv",
        "label_columns": NAMES,
        "na_values": ["-1"],
        "size": 8,
    }


def of_vectors_in_a_table(root: Path) -> tuple[str, dict[str, Any]]:
    rows = [f"{number},{line}" for number, line in enumerate(cells("?"))]
    (root / "v.csv").write_text("\n".join(["x,a,b,c", *rows]), encoding="utf-8")
    return "vectors", {"path": "v.csv", "label_columns": NAMES, "na_values": ["?"]}


def of_arrays(root: Path) -> tuple[str, dict[str, Any]]:
    np.save(root / "x.npy", np.arange(len(TRUTH), dtype=np.float32)[:, None])
    np.save(root / "y.npy", np.where(TRUTH < 0, np.nan, TRUTH))
    return "vectors", {"path": "x.npy", "labels_path": "y.npy", "labels": NAMES}


def of_arrays_with_minus_one(root: Path) -> tuple[str, dict[str, Any]]:
    source, settings = of_arrays(root)
    np.save(root / "y.npy", TRUTH)
    return source, {**settings, "na_values": ["-1"]}


def of_arff(root: Path) -> tuple[str, dict[str, Any]]:
    header = [
        "@relation r",
        "@attribute x numeric",
        *(f"@attribute {name} {{0,1}}" for name in NAMES),
        "@data",
    ]
    rows = []
    for number, line in enumerate(cells("?")):
        sparse = [f"{n} {value}" for n, value in enumerate(line.split(","), 1) if value != "0"]
        rows.append(f"{number},{line}" if number % 2 else f"{{{', '.join([f'0 {number}', *sparse])}}}")
    (root / "r.arff").write_text("\n".join([*header, *rows]), encoding="utf-8")
    return "arff", {"path": "r.arff", "labels": NAMES}


SOURCES = [
    of_texts, of_json_nulls, of_images, of_vectors_in_a_table, of_arrays, of_arrays_with_minus_one, of_arff,
]  # fmt: skip


def numbers_of(dataset: PreparedDataset, split: str) -> list[int]:
    """The row of the raw file that each row of the split came from."""
    part = dataset[split]
    match dataset.modality:
        case "text":
            return [int(text.removeprefix("row ")) for text in part.texts]
        case "image":
            return [int(image[0, 0, 0]) for image in part.images]
        case _:
            return part.vectors[:, 0].astype(int).tolist()


@pytest.mark.parametrize("write", SOURCES)
def test_each_cell_is_stored_as_the_file_says(tmp_path: Path, write: Callable[..., Any]) -> None:
    source, settings = write(tmp_path)
    dataset = prepare(tmp_path, source, **settings, **IGNORE)
    assert sum(len(dataset[split]) for split in SPLITS) == len(TRUTH)
    for split in SPLITS:
        rows = numbers_of(dataset, split)
        expected = TRUTH[rows]
        assert np.array_equal(dataset[split].dense_labels(), expected)
        assert np.array_equal(dataset[split].dense_labels([1, 0]), expected[[1, 0]])
        assert np.array_equal(dataset[split].labels.toarray(), expected == 1)
        counts = dict(zip(NAMES, (expected == -1).sum(axis=0).tolist(), strict=True))
        assert dataset.card["unknown_labels"][split] == counts
    assert dataset.card["format"] == 2
    total = (TRUTH[numbers_of(dataset, "train")] == -1).sum()
    sentence = next(line for line in sanity.report(dataset.folder) if "unknown labels" in line)
    assert sentence.startswith(f"unknown labels, left out of losses and metrics: train {total} (")


@pytest.mark.parametrize("write", SOURCES)
def test_other_settings_are_an_error_zero_or_a_row_less(tmp_path: Path, write: Callable[..., Any]) -> None:
    source, settings = write(tmp_path)
    with pytest.raises(DataError, match=r"on_missing_label: negative .*, skip .* or ignore"):
        prepare(tmp_path, source, **settings)
    negative = prepare(tmp_path, source, **settings, on_missing_label="negative")
    skipped = prepare(tmp_path, source, **settings, on_missing_label="skip")
    for split in SPLITS:
        assert np.array_equal(
            negative[split].dense_labels(), np.maximum(TRUTH, 0)[numbers_of(negative, split)]
        )
        assert np.array_equal(skipped[split].dense_labels(), TRUTH[numbers_of(skipped, split)])
    assert sum(len(skipped[split]) for split in SPLITS) == (TRUTH >= 0).all(axis=1).sum()
    assert negative.card["format"] == skipped.card["format"] == 1


def test_without_unknown_labels_the_dataset_is_the_same(tmp_path: Path) -> None:
    rows = "\n".join(f"row {number},{number % 2},{number % 3 % 2}" for number in range(30))
    (tmp_path / "t.csv").write_text(f"text,a,b\n{rows}", encoding="utf-8")
    settings: dict[str, Any] = {"path": "t.csv", "text": "text", "label_columns": ["a", "b"]}
    plain, ignoring = (prepare(tmp_path, "table", **settings, **more) for more in ({}, IGNORE))
    assert plain.card["files"] == ignoring.card["files"]
    assert plain.content == ignoring.content
    assert ignoring.card["format"] == 1
    assert "unknown_labels" not in ignoring.card
    assert ignoring["train"].dense_labels().dtype == np.uint8


def test_a_value_that_means_absent_is_not_taken_for_unknown(tmp_path: Path) -> None:
    """Arrays of 1 and -1 have no unknown labels: -1 is their 0."""
    np.save(tmp_path / "x.npy", np.arange(20.0)[:, None])
    np.save(tmp_path / "y.npy", np.where(np.arange(40).reshape(20, 2) % 3 == 0, 1, -1))
    settings: dict[str, Any] = {"path": "x.npy", "labels_path": "y.npy"}
    with pytest.raises(DataError, match=r"y\.npy: row 0, column 1 is -1, expected 0 or 1 \(na_values lists"):
        prepare(tmp_path, "vectors", **settings, **IGNORE)
    with pytest.raises(DataError, match="no label of a training row is known to be absent"):
        prepare(tmp_path, "vectors", **settings, **IGNORE, na_values=["-1"])
    with pytest.raises(DataError, match="'none' is no finite number"):
        prepare(tmp_path, "vectors", **settings, **IGNORE, na_values=["none"])
    negative = prepare(tmp_path, "vectors", **settings, on_missing_label="negative", na_values=["-1"])
    assert sum(int(negative[split].dense_labels().sum()) for split in SPLITS) == 14


def test_damage_to_unknown_labels_is_seen(tmp_path: Path) -> None:
    dataset = prepare(tmp_path, *of_texts(tmp_path)[:1], **of_texts(tmp_path)[1], **IGNORE)
    file = dataset.folder / "train" / "unknown_ids.npy"
    content = bytearray(file.read_bytes())
    content[-4] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"unknown_ids\.npy"):
        open_dataset(dataset.folder)
