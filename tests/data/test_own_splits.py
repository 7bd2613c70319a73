"""Splits of own data: given in every source, or drawn and stratified."""

from pathlib import Path

import numpy as np
import pytest

from data_prep import DataError
from data_prep.readers.splits import assign_stratified
from tests.data.own import SPLITS, prepare

SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}
TABLE = {"text": "text", "label_list": "tags"}


def test_every_split_has_its_share_of_each_label() -> None:
    rng = np.random.default_rng(0)
    frequencies = 0.5 ** np.arange(1, 9)
    labels = [[int(label) for label in np.flatnonzero(rng.random(8) < frequencies)] for _ in range(2000)]
    splits = np.array(assign_stratified(labels, SHARES, seed=0))
    for name, share in SHARES.items():
        assert (splits == name).sum() == round(2000 * share)
        for label in range(8):
            positives = np.array([label in row for row in labels])
            assert (
                abs((positives & (splits == name)).sum() - share * positives.sum())
                < 2 + 0.01 * positives.sum()
            )


def test_stratified_splits_are_seeded_and_do_not_depend_on_the_names_of_labels() -> None:
    labels = [[number % 3, number % 5] for number in range(60)]
    first = assign_stratified(labels, SHARES, seed=0)
    assert first == assign_stratified([[f"label {label}" for label in row] for row in labels], SHARES, seed=0)
    assert first != assign_stratified(labels, SHARES, seed=1)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("labelled", [3, 4, 9])
def test_no_split_is_without_positives_where_that_can_be_avoided(seed: int, labelled: int) -> None:
    labels = [["a"] if number < labelled else [] for number in range(10)]
    splits = assign_stratified(labels, SHARES, seed)
    assert {split for split, row in zip(splits, labels, strict=True) if row} == set(SPLITS)
    assert [splits.count(name) for name in SPLITS] == [7, 1, 2]


def test_own_splits_are_stratified_and_say_so(tmp_path: Path) -> None:
    rows = "".join(f"row {number},{'rare' if number % 10 == 0 else ''}\n" for number in range(100))
    (tmp_path / "t.csv").write_text(f"text,tags\n{rows}", encoding="utf-8")
    drawn = prepare(tmp_path, "table", path="t.csv", **TABLE)
    assert [int(drawn[split].dense_labels().sum()) for split in SPLITS] == [7, 1, 2]
    assert any("stratified by label" in note for note in drawn.card["notes"])
    plain = prepare(tmp_path, "table", path="t.csv", stratify=False, **TABLE)
    assert any("not stratified" in note for note in plain.card["notes"])
    assert sorted(plain["train"].ids) != sorted(drawn["train"].ids)


def test_a_column_may_leave_validation_to_be_drawn(tmp_path: Path) -> None:
    rows = "".join(
        f"row {number},{'ab'[number % 2]},{'test' if number < 10 else 'TRAIN'}\n" for number in range(50)
    )
    (tmp_path / "t.csv").write_text(f"text,tags,part\n{rows}", encoding="utf-8")
    dataset = prepare(tmp_path, "table", path="t.csv", split="part", **TABLE)
    assert [len(dataset[split]) for split in SPLITS] == [36, 4, 10]
    assert sorted(dataset["test"].texts) == sorted(f"row {number}" for number in range(10))
    (tmp_path / "t.csv").write_text(f"text,tags,part\n{rows.replace('test', '')}", encoding="utf-8")
    with pytest.raises(DataError, match=r"t\.csv:2: split ''"):
        prepare(tmp_path, "table", path="t.csv", split="part", **TABLE)


def test_splits_of_vectors_may_be_given(tmp_path: Path) -> None:
    parts = ["train", "train", "val", "test"] * 5
    arff = "".join(f"{number},{parts[number]},{number % 2}\n" for number in range(20))
    header = "@attribute x numeric\n@attribute part {train,val,test}\n@attribute y {0,1}\n@data\n"
    (tmp_path / "a.arff").write_text(header + arff, encoding="utf-8")
    (tmp_path / "s.svm").write_text("".join(f"{n % 2} 0:{n + 1}\n" for n in range(20)), encoding="utf-8")
    np.save(tmp_path / "x.npy", np.arange(20.0)[:, None])
    np.save(tmp_path / "y.npy", np.arange(20)[:, None] % 2)
    (tmp_path / "parts.txt").write_text("\n".join(parts) + "\n", encoding="utf-8")
    expected = [[float(n) for n in range(20) if parts[n] == split] for split in SPLITS]
    found = {
        "arff": prepare(tmp_path, "arff", path="a.arff", labels=["y"], split="part"),
        "svmlight": prepare(tmp_path, "svmlight", path="s.svm", split_path="parts.txt"),
        "vectors": prepare(tmp_path, "vectors", path="x.npy", labels_path="y.npy", split_path="parts.txt"),
    }
    for source, dataset in found.items():
        shift = source == "svmlight"
        assert [(dataset[split].vectors[:, 0] - shift).tolist() for split in SPLITS] == expected, source
    assert found["arff"]["train"].vectors.shape[1] == 1
    (tmp_path / "parts.txt").write_text("train\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"parts\.txt: names the split of 1 rows, there are 20"):
        prepare(tmp_path, "svmlight", path="s.svm", split_path="parts.txt")
