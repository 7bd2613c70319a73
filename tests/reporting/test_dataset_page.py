"""The page about a dataset."""

from pathlib import Path

import data_prep
from mlcl.data import open_dataset
from mlcl.reporting.dataset_page import dataset_page, published_counts, write_dataset_page


def test_the_page_shows_counts_pictures_and_examples(tmp_path: Path) -> None:
    settings = {"train": 40, "val": 10, "test": 10}
    data_prep.prepare(
        data_prep.plan("digit_scenes", settings, tmp_path, False), tmp_path, tmp_path / "scenes"
    )
    page = write_dataset_page(tmp_path / "scenes", tmp_path / "cards" / "scenes.html").read_text(
        encoding="utf-8"
    )
    assert page.count("<img") == 3 + 12
    assert "http-equiv" not in page
    assert "src='http" not in page  # nothing is fetched
    for part in ("Digit scenes", "CC BY 4.0", "scikit-learn", "labels without a positive", "Co-occurrence"):
        assert part in page
    assert dataset_page(open_dataset(tmp_path / "scenes")) == page  # the same every time


def test_differences_from_the_published_counts_are_marked(tmp_path: Path) -> None:
    settings = {"train": 40, "val": 10, "test": 10}
    data_prep.prepare(
        data_prep.plan("digit_scenes", settings, tmp_path, False), tmp_path, tmp_path / "scenes"
    )
    dataset = open_dataset(tmp_path / "scenes")
    examples = {"train+val": 50, "test": 11}
    dataset.card["published"] = {"labels": 10, "rows": 60, "examples": examples}  # type: ignore[index]
    assert [(item.what, item.same) for item in published_counts(dataset.card)] == [
        ("labels", True),
        ("rows", True),
        ("examples in train+val", True),
        ("examples in test", False),
    ]
    page = dataset_page(dataset)
    assert page.count("≠") == 1
    assert "differs" in page


def test_texts_on_the_page_are_escaped(tmp_path: Path) -> None:
    table = "text,tags\n" + "".join(f"<b>bold {n}</b>,<x>\n" for n in range(20))
    (tmp_path / "t.csv").write_text(table, encoding="utf-8")
    recipe = data_prep.plan("table", {"path": "t.csv", "text": "text", "label_list": "tags"}, tmp_path, False)
    data_prep.prepare(recipe, tmp_path, tmp_path / "out")
    page = dataset_page(open_dataset(tmp_path / "out"))
    assert "<b>" not in page
    assert "&lt;b&gt;bold" in page


def test_the_sanity_report_is_on_the_page(tmp_path: Path) -> None:
    rows = [f"text {n // 2},{'ab'[n % 2]}\n" for n in range(20)]
    (tmp_path / "t.csv").write_text("text,tags\n" + "".join(rows), encoding="utf-8")
    recipe = data_prep.plan("table", {"path": "t.csv", "text": "text", "label_list": "tags"}, tmp_path, False)
    data_prep.prepare(recipe, tmp_path, tmp_path / "out")
    page = dataset_page(open_dataset(tmp_path / "out"))
    for sentence in (
        "t.csv: 20 rows, 21 lines",
        "2 labels with their counts: a 10, b 10",
        "rows of each split (with labels): train 14 (14), val 2 (2), test 4 (4)",
        "10 rows repeat the content of an earlier one",
    ):
        assert f"<li>{sentence}" in page
