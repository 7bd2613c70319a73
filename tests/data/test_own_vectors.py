"""Vectors of one's own: tables and arrays; and the numbers of svmlight and ARFF files that mean something else."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep import DataError
from tests.data.own import SPLITS, kinds_of_warnings, prepare

COLUMNS = {"path": "t.csv", "label_columns": ["a", "b"]}


def table(path: Path, cells: dict[int, str] | None = None) -> None:
    """Columns serial, x, y, a, b; `cells`: row -> its cell of y."""
    rows = "".join(
        f"s{number},{number},{(cells or {}).get(number, number / 2)},{number % 2},{int(number % 3 == 0)}\n"
        for number in range(30)
    )
    path.write_text(f"serial,x,y,a,b\n{rows}", encoding="utf-8")


def test_a_table_of_features(tmp_path: Path) -> None:
    import pandas as pd

    table(tmp_path / "t.csv")
    pd.read_csv(tmp_path / "t.csv").to_parquet(tmp_path / "t.parquet")
    for name in ("t.csv", "t.parquet"):
        dataset = prepare(tmp_path, "vectors", **{**COLUMNS, "path": name}, id="serial")
        assert sum(len(dataset[split]) for split in SPLITS) == 30
        for split in SPLITS:
            vectors, labels = dataset[split].vectors, dataset[split].dense_labels()
            assert vectors.dtype == np.float32
            assert (vectors[:, 1] * 2 == vectors[:, 0]).all()
            assert (labels[:, 0] == vectors[:, 0] % 2).all()
            assert dataset[split].ids.tolist() == [f"s{number:.0f}" for number in vectors[:, 0]]
    chosen = prepare(tmp_path, "vectors", **COLUMNS, features=["y"])
    assert chosen["train"].vectors.shape == (21, 1)
    with pytest.raises(
        DataError, match=r"t\.csv:2: column 'serial' is 's0', expected a finite number; features names"
    ):
        prepare(tmp_path, "vectors", **COLUMNS)


@pytest.mark.parametrize("rule", ["zero", "mean", "median"])
def test_missing_values_follow_a_named_rule(tmp_path: Path, rule: str) -> None:
    table(tmp_path / "t.csv", {4: "", 9: "?"})
    settings: dict[str, Any] = {**COLUMNS, "features": ["x", "y"], "na_values": ["?"]}
    with pytest.raises(DataError, match=r"t\.csv:6: feature 1 \(from 0\) has no value; set missing_values"):
        prepare(tmp_path, "vectors", **settings)
    dataset = prepare(tmp_path, "vectors", missing_values=rule, **settings)
    training = dataset["train"].vectors
    known = training[~np.isin(training[:, 0], (4, 9)), 1]
    expected = {"zero": 0.0, "mean": known.mean(), "median": np.median(known)}[rule]
    rows = np.concatenate([dataset[split].vectors for split in SPLITS])
    assert np.allclose(rows[np.isin(rows[:, 0], (4, 9)), 1], expected)
    assert sum("missing features" in warning["kind"] for warning in dataset.card["warnings"]) == 1


@pytest.mark.parametrize("cell", ["nan", "inf", "1e999", "1_0", "1,5", "x"])
def test_features_must_be_finite_numbers(tmp_path: Path, cell: str) -> None:
    table(tmp_path / "t.csv", {4: f'"{cell}"'})
    with pytest.raises(DataError, match=r"t\.csv:6: column 'y' is .*, expected a finite number"):
        prepare(tmp_path, "vectors", **COLUMNS, features=["x", "y"])


def test_arrays(tmp_path: Path) -> None:
    features, labels = np.arange(60.0).reshape(30, 2), np.arange(30)[:, None] % np.array([2, 3]) == 0
    np.save(tmp_path / "x.npy", features)
    np.save(tmp_path / "y.npy", labels)
    settings: dict[str, Any] = {"path": "x.npy", "labels_path": "y.npy", "labels": ["even", "three"]}
    dataset = prepare(tmp_path, "vectors", **settings)
    for split in SPLITS:
        numbers = (dataset[split].vectors[:, 0] / 2).astype(int)
        assert (dataset[split].dense_labels() == labels[numbers]).all()
    with pytest.raises(DataError, match=r"has 2 columns, labels names 1"):
        prepare(tmp_path, "vectors", **{**settings, "labels": ["even"]})
    np.save(tmp_path / "y.npy", labels[:-1])
    with pytest.raises(DataError, match=r"y\.npy: has the shape \(29, 2\), expected \(30, 2\)"):
        prepare(tmp_path, "vectors", **settings)
    np.save(tmp_path / "y.npy", labels + 1)
    with pytest.raises(DataError, match=r"y\.npy: row 0, column 0 is 2, expected 0 or 1"):
        prepare(tmp_path, "vectors", **settings)
    np.save(tmp_path / "y.npy", labels)
    features[7, 1] = np.inf
    np.save(tmp_path / "x.npy", features)
    with pytest.raises(DataError, match=r"x\.npy: row 7: column 1 \(of the features, from 0\) is inf"):
        prepare(tmp_path, "vectors", **settings)
    np.save(tmp_path / "x.npy", np.array([[{}]]), allow_pickle=True)
    with pytest.raises(DataError, match=r"x\.npy: cannot be read as an \.npy array"):
        prepare(tmp_path, "vectors", **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"path": "x.npy"}, "needs labels_path"),
        ({"path": "x.npy", "labels_path": "y.npy", "id": "n"}, "'id' has no effect: it is of tables"),
        ({**COLUMNS, "split_path": "p.txt"}, "'split_path' has no effect"),
        ({"path": "x.npy", "labels_path": "y.npy", "test_path": "t.csv"}, "all be tables or all be"),
        ({**COLUMNS, "val_path": "t.csv"}, "val_path needs test_path"),
        ({**COLUMNS, "features": ["a"]}, "column 'a' cannot be a feature and a label"),
        ({**COLUMNS, "features": ["x", "y", "x"]}, "features names 'x' twice"),
    ],
)
def test_settings_of_vectors_must_go_together(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    table(tmp_path / "t.csv")
    for name in ("x.npy", "y.npy"):
        np.save(tmp_path / name, np.ones((4, 1)))
    (tmp_path / "p.txt").write_text("train\n", encoding="utf-8")
    with pytest.raises(DataError, match=message):
        prepare(tmp_path, "vectors", **settings)


BODY = "".join(f"{number % 3},{3 + number % 2} 0:1 {1 + number % 4}:0.5\n" for number in range(12))


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    [
        ("0.4 0:1\n", {}, r"f\.txt:1: .*0\.4 is no label number; targets of a regression"),
        ("-1 0:1\n", {}, r"f\.txt:1: .*targets of -1 and 1 are no label numbers"),
        (f"{BODY}3000000 0:1\n", {}, r"f\.txt:13: 3000001 labels are more than 100000; .*set max_labels"),
        (f"{BODY}30000 0:1\n", {}, r"f\.txt:13: label number 30000 makes 30001 labels, of which 6 occur"),
        (f"{BODY}300000000 0:1\n", {}, r"f\.txt:13: .*label number 300000000 is too large"),
        (f"{BODY}1 4:1 4:2\n", {}, r"f\.txt:13: a feature occurs twice"),
        (f"{BODY}1 4:nan\n", {}, r"f\.txt:13: .*feature 4 is 'nan', which is no finite number"),
        (f"{BODY}1 {10**30}:1\n", {}, r"f\.txt:13: .*is no feature number"),
        (f"{BODY}1 1_0:1\n", {}, r"f\.txt:13: .*'1_0' is no feature number"),
        (f"{BODY}1 １:1\n", {}, r"f\.txt:13: .*is no feature number"),
        (BODY, {"label_names": "blank.txt"}, r"blank\.txt:2: the line is blank"),
        (
            BODY,
            {"label_names": "twice.txt"},
            r"twice\.txt:5: label 'a' occurs twice, first in .*twice\.txt:1",
        ),
        (BODY, {"label_names": "few.txt"}, r"f\.txt:2: uses label 4, label_names names 2 labels"),
        (BODY, {"zero_based": False}, r"f\.txt:1: label and feature numbers start at 1"),
        (BODY, {"label_names": "headed.txt"}, r"headed\.txt:1: 'id,name' looks like a heading"),
        (BODY, {"label_names": "tabs.txt"}, r"tabs\.txt:1: label '0\\ta' holds a control character"),
        (f"12,5,5\n{BODY}", {}, r"f\.txt:1: looks like counts, not like a row"),
        ("0\n1\n2\n" * 4, {}, r"no row of f\.txt has a feature"),
    ],
)
def test_numbers_of_svmlight_that_mean_something_else(
    tmp_path: Path, content: str, settings: dict[str, Any], message: str
) -> None:
    (tmp_path / "f.txt").write_text(content, encoding="utf-8")
    (tmp_path / "blank.txt").write_text("a\n\nc\nd\ne\nf\n", encoding="utf-8")
    (tmp_path / "twice.txt").write_text("a\nb\nc\nd\na\n", encoding="utf-8")
    (tmp_path / "few.txt").write_text("a\nb\n", encoding="utf-8")
    (tmp_path / "headed.txt").write_text(
        "id,name\n" + "".join(f"{n},{n}\n" for n in range(5)), encoding="utf-8"
    )
    (tmp_path / "tabs.txt").write_text(
        "".join(f"{n}\t{name}\n" for n, name in enumerate("abcde")), encoding="utf-8"
    )
    with pytest.raises(DataError, match=message):
        prepare(tmp_path, "svmlight", path="f.txt", **settings)


def test_forms_of_svmlight_files_read_alike(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("a\nb\nc\nd\ne\n\n", encoding="utf-8")
    forms = {
        "plain": BODY,
        "tabs": BODY.replace(" ", "\t"),
        "spaces after commas": BODY.replace(",", ", "),
        "floats": "".join(f"{n % 3}.0,{3 + n % 2}.0 0:1 {1 + n % 4}:.5\n" for n in range(12)),
        "headed": "12 5 5\r\n" + BODY.replace("\n", "\r\n"),
        "comments": BODY.replace("\n", " # a row\n"),
    }
    expected = None
    for form in forms.values():
        (tmp_path / "f.txt").write_text(form, encoding="utf-8")
        dataset = prepare(tmp_path, "svmlight", path="f.txt", label_names="names.txt")
        assert dataset.label_names == list("abcde")
        found = [
            (dataset[split].vectors.tolist(), dataset[split].dense_labels().tolist()) for split in SPLITS
        ]
        expected = expected or found
        assert found == expected
    (tmp_path / "f.txt").write_text(
        "".join(f"{1 + n % 3},{4 + n % 2} 1:1 {2 + n % 4}:0.5\n" for n in range(12)), encoding="utf-8"
    )
    from_one = prepare(tmp_path, "svmlight", path="f.txt", zero_based=False)
    assert [
        (from_one[split].vectors.tolist(), from_one[split].dense_labels().tolist()) for split in SPLITS
    ] == expected
    assert from_one.label_names[0] == "label 1"
    warnings = kinds_of_warnings(prepare(tmp_path, "svmlight", path="f.txt"))
    assert any("if numbers start at 1, set zero_based: false" in warning for warning in warnings)
    (tmp_path / "names.txt").write_text("2 c\n1 b\n0 a\n'd\nnan\n5 f\n", encoding="utf-8")
    warnings = kinds_of_warnings(prepare(tmp_path, "svmlight", path="f.txt", label_names="names.txt"))
    assert "label_names holds names that look misread, such as 'nan'" in warnings
    (tmp_path / "names.txt").write_text("2 c\n1 b\n0 a\n3 d\n4 e\n5 f\n", encoding="utf-8")
    warnings = kinds_of_warnings(prepare(tmp_path, "svmlight", path="f.txt", label_names="names.txt"))
    assert any("start with numbers that are not in order" in warning for warning in warnings)


@pytest.mark.parametrize("cell", ["nan", "inf", "1e999", "1_0"])
def test_arff_numbers_must_be_finite(tmp_path: Path, cell: str) -> None:
    (tmp_path / "a.arff").write_text(
        f"@attribute x numeric\n@attribute y {{0,1}}\n@data\n1,0\n{cell},1\n" + "2,1\n" * 9, encoding="utf-8"
    )
    with pytest.raises(DataError, match=rf"a\.arff:5: '{cell}' is not a finite number \(attribute x\)"):
        prepare(tmp_path, "arff", path="a.arff", labels=["y"])
