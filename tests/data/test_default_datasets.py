"""The two datasets of the default study."""

import re
from pathlib import Path

import numpy as np
import pytest

import data_prep
from data_prep.readers.near_duplicates import distinct_rows
from mlcl.data import PreparedDataset, open_dataset


def prepared(name: str, out: Path, **settings: object) -> PreparedDataset:
    data_prep.prepare(data_prep.plan(name, settings, out, accept_local=False), out, out / name)
    return open_dataset(out / name)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    return prepared("digit_scenes", tmp_path_factory.mktemp("scenes"), train=300, val=100, test=100)


@pytest.fixture(scope="module")
def docs(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    return prepared("scipy_docs", tmp_path_factory.mktemp("docs"))


def test_scenes_have_the_sizes_and_labels_asked_for(scenes: PreparedDataset) -> None:
    assert [len(scenes[split]) for split in ("train", "val", "test")] == [300, 100, 100]
    assert scenes["train"].images.shape == (300, 32, 32, 1)
    assert scenes.label_names[:2] == ["zero", "one"]
    assert scenes.num_labels == 10
    labels = scenes["train"].dense_labels()
    assert labels.sum(axis=1).min() >= 1
    assert 1.5 < labels.sum(axis=1).mean() < 3


def test_scenes_show_bright_digits_on_a_darker_ground(scenes: PreparedDataset) -> None:
    images = np.asarray(scenes["train"].images)
    assert (images.max(axis=(1, 2, 3)) > 180).mean() > 0.95
    assert np.median(images) < 120


def test_source_digits_never_cross_the_border() -> None:
    from sklearn.datasets import load_digits

    from data_prep.sources.digit_scenes import divide_digits

    classes = load_digits().target
    parts = divide_digits(classes, seed=0)
    together = np.concatenate(list(parts.values()))
    assert sorted(together) == list(range(len(classes)))
    for rows in parts.values():
        assert set(classes[rows]) == set(range(10))


def test_scenes_depend_on_the_seed_alone(tmp_path: Path, scenes: PreparedDataset) -> None:
    sizes = {"train": 300, "val": 100, "test": 100}
    again = prepared("digit_scenes", tmp_path / "again", **sizes)
    other = prepared("digit_scenes", tmp_path / "other", **sizes, seed=1)
    assert again.card["content_sha256"] == scenes.card["content_sha256"]
    assert other.card["content_sha256"] != scenes.card["content_sha256"]


@pytest.mark.slow
def test_docs_have_many_labels_with_a_long_tail(docs: PreparedDataset) -> None:
    assert [len(docs[split]) for split in ("train", "val", "test")] == [6000, 1000, 2000]
    assert docs.num_labels >= 60
    counts = list(docs.card["splits"]["train"]["label_counts"].values())
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > 20 * counts[-1]
    for split in ("train", "val", "test"):
        assert min(docs.card["splits"][split]["label_counts"].values()) >= 1


@pytest.mark.slow
def test_no_file_is_in_two_splits_of_the_docs(docs: PreparedDataset) -> None:
    files = [{row_id.split(":")[0] for row_id in docs[split].ids} for split in ("train", "val", "test")]
    assert not files[0] & files[1]
    assert not files[0] & files[2]
    assert not files[1] & files[2]


@pytest.mark.slow
def test_near_duplicates_do_not_cross_the_border_of_the_docs(docs: PreparedDataset) -> None:
    def runs(text: str) -> set[tuple[str, ...]]:
        words = text.lower().split()
        return {tuple(words[i : i + 4]) for i in range(len(words) - 3)}

    train = [runs(text) for text in docs["train"].texts]
    for text in docs["test"].texts[::100]:
        own = runs(text)
        assert all(len(own & other) < 0.5 * min(len(own), len(other)) for other in train)


@pytest.mark.slow
def test_no_label_of_the_docs_is_given_away_by_its_name(docs: PreparedDataset) -> None:
    train = docs["train"]
    words = [set(re.findall(r"[a-z0-9_]+", text.lower())) for text in train.texts]
    labels = train.dense_labels().astype(bool)
    for number, name in enumerate(docs.label_names):
        word = name.split()[-1].lower()
        said = np.array([word in row for row in words])
        f1 = 2 * (said & labels[:, number]).sum() / (said.sum() + labels[:, number].sum())
        assert f1 < 0.7, name


@pytest.mark.slow
def test_docs_carry_no_headings_and_no_package_names(docs: PreparedDataset) -> None:
    text = "\n".join(docs["test"].texts).lower()
    assert "----" not in text
    assert ">>>" not in text
    for name in ("numpy", "scipy", "pandas", "sklearn", "matplotlib", "networkx"):
        assert not re.search(rf"\b{name}\b", text), name


def test_repeated_texts_are_dropped_and_the_first_is_kept() -> None:
    texts = [
        "compute the mean of all values along an axis",
        "compute the mean of all values along an axis of the array",
        "read a file from the disk and return its lines",
        "too short",
    ]
    assert distinct_rows(texts) == [0, 2]
