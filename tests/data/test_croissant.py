"""Croissant of a prepared dataset: accepted by the reference library, and true to the card."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mlcl.cli import app
from mlcl.data import PreparedDataset
from tests.data.own import prepare

REQUIRED = {
    "@context",
    "@type",
    "conformsTo",
    "name",
    "description",
    "url",
    "license",
    "creator",
    "datePublished",
}
"""By the specification of Croissant 1.0; a dataset of one's own has no address and no creator to name."""


@pytest.fixture
def reviews(tmp_path: Path) -> PreparedDataset:
    rows = [(f"text {number}", "abc"[number % 3]) for number in range(30)]
    (tmp_path / "t.csv").write_text("text,tags\n" + "".join(f"{text},{tag}\n" for text, tag in rows))
    return prepare(tmp_path, "table", path="t.csv", text="text", label_list="tags", title="Reviews")


def describe(dataset: PreparedDataset, file: Path) -> Any:
    """The description as the command writes it."""
    done = CliRunner().invoke(
        app, ["croissant", str(dataset.folder), "--to", str(file)], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    return json.loads(file.read_text(encoding="utf-8"))


def test_the_reference_library_accepts_it(reviews: PreparedDataset, tmp_path: Path) -> None:
    # Not in the lock: one of its dependencies is distributed as source only, whose build no hash covers.
    mlcroissant = pytest.importorskip("mlcroissant", reason="pip install mlcroissant, to have it check this")
    describe(reviews, tmp_path / "croissant.json")
    found = mlcroissant.Dataset(str(tmp_path / "croissant.json"))
    assert not found.metadata.ctx.issues.errors
    rows = {row["splits/name"]: row["splits/examples"] for row in found.records("splits")}
    assert rows == {name: len(reviews[name]) for name in ("train", "val", "test")}
    labels = list(found.records("labels"))
    assert [row["labels/name"] for row in labels] == reviews.label_names
    assert labels[0]["labels/train_examples"] == reviews["train"].dense_labels()[:, 0].sum()


def test_files_are_listed_as_they_are(reviews: PreparedDataset, tmp_path: Path) -> None:
    content = describe(reviews, tmp_path / "croissant.json")
    assert len(content["distribution"]) == len(reviews.card["files"])
    for entry in content["distribution"]:
        stored = (reviews.folder / entry["contentUrl"]).read_bytes()
        assert entry["sha256"] == hashlib.sha256(stored).hexdigest()
        assert entry["contentSize"] == f"{len(stored)} B"
        assert entry["description"], entry


def test_required_properties(tmp_path: Path) -> None:
    digits = prepare(tmp_path, "digit_scenes", train=20, val=10, test=10)
    content = describe(digits, tmp_path / "croissant.json")
    assert set(content) >= REQUIRED
    assert content["creator"]["name"] == "Alpaydin and Kaynak"
    assert content["conformsTo"] == "http://mlcommons.org/croissant/1.0"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", content["datePublished"])


def test_what_is_not_known_is_not_stated(reviews: PreparedDataset, tmp_path: Path) -> None:
    content = describe(reviews, tmp_path / "croissant.json")
    assert REQUIRED - set(content) == {"url", "creator"}
    assert content["alternateName"] == "Reviews"
