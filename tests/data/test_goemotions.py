"""GoEmotions: the official files, and what is wrong in files that are not."""

from pathlib import Path

import pytest

import data_prep
from data_prep import DataError
from mlcl.data import open_dataset

EMOTIONS = "joy\nanger\nneutral"
ROWS = 'I say "so\t0,1\tid1\nfine\t2\tid2\n'


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "raw" / "goemotions" / "data"
    folder.mkdir(parents=True)
    (folder / "emotions.txt").write_text(EMOTIONS, encoding="utf-8")
    for name in ("train", "dev", "test"):
        (folder / f"{name}.tsv").write_text(ROWS.replace("id", name), encoding="utf-8")
    return tmp_path / "raw"


def prepare(raw: Path, **settings: object) -> Path:
    out = raw.parent / "out"
    data_prep.prepare(data_prep.plan("goemotions", settings, raw, True), raw, out)
    return out


def test_the_official_files_have_the_published_counts(data_root: Path, tmp_path: Path) -> None:
    recipe = data_prep.plan("goemotions", {}, data_root, accept_local=False)
    data_prep.prepare(recipe, data_root, tmp_path / "out")
    dataset = open_dataset(tmp_path / "out")
    splits = dataset.card["splits"]
    assert {name: split["examples"] for name, split in splits.items()} == {
        "train": 43410,
        "val": 5426,
        "test": 5427,
    }
    assert {name: round(split["cardinality"], 4) for name, split in splits.items()} == {
        "train": 1.1772,
        "val": 1.1758,
        "test": 1.1662,
    }
    assert [splits[name]["label_counts"]["neutral"] for name in splits] == [14219, 1766, 1787]
    assert [splits[name]["label_counts"]["grief"] for name in splits] == [77, 13, 6]
    assert sum(split["empty_rows"] for split in splits.values()) == 0
    assert {entry["state"] for entry in dataset.card["raw_files"]} == {"published"}
    assert dataset["train"].texts[0] == "My favourite food is anything I didn't have to cook myself."


def test_missing_files_are_named_with_the_place_and_the_way(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        data_prep.prepare(data_prep.plan("goemotions", {}, tmp_path, False), tmp_path, tmp_path / "out")
    for part in ("data/train.tsv", "data/dev.tsv", str(tmp_path / "goemotions"), "google-research"):
        assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_quotes_and_crlf_are_read_as_they_stand(raw: Path) -> None:
    file = raw / "goemotions/data/dev.tsv"
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    dataset = open_dataset(prepare(raw))
    assert list(dataset["val"].texts) == list(dataset["train"].texts) == ['I say "so', "fine"]
    assert dataset["val"].dense_labels().tolist() == [[1, 1, 0], [0, 0, 1]]
    assert {entry["state"] for entry in dataset.card["raw_files"]} == {"local"}


def test_texts_may_be_cleaned_as_in_the_study(raw: Path) -> None:
    (raw / "goemotions/data/test.tsv").write_text("Héllo — World (x)\t0\ta\n", encoding="utf-8")
    assert list(open_dataset(prepare(raw, cleaning="comprehensive"))["test"].texts) == ["h llo world (x)"]


def test_a_file_that_cannot_be_read_is_named(raw: Path) -> None:
    file = raw / "goemotions/data/test.tsv"
    file.unlink()
    file.mkdir()
    with pytest.raises(DataError, match=r"test\.tsv: cannot be read"):
        prepare(raw)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"text\t0\n", r"test\.tsv:1: 2 tab-separated cells, expected 3"),
        (b"text\tjoy\tid\n", r"test\.tsv:1: 'joy' is not a label number"),
        (b"ok\t0\ta\ntext\t7\tb\n", r"test\.tsv:2: label 7 is not in the list"),
        (b"ok\t0\ta\n\xff\t1\tb\n", r"test\.tsv:2: not UTF-8"),
        (b"ok\t0\ta\nok\t0\ta\n", r"test\.tsv:2: the id 'a' occurs twice"),
        (b"ok\t0\ttrain1\n", "the id 'train1' is in train and in test"),
        (b"", "split 'test' is empty"),
        (b"\x1f\x8b\x08\x00broken", r"test\.tsv: cannot be read"),
    ],
)
def test_a_bad_file_is_an_error_with_its_row(raw: Path, content: bytes, message: str) -> None:
    (raw / "goemotions/data/test.tsv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        prepare(raw)
    assert not (raw.parent / "out").exists()
