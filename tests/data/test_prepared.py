"""The prepared form: what is written is what is read, and nothing half-written is taken for a dataset."""

import json
import os
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import data_prep
from data_prep import DataError
from data_prep.writer import DatasetWriter
from mlcl.data import PreparedDataset, open_dataset, subset

REPOSITORY = Path(__file__).parents[2]
SMALL = {"train": 60, "val": 20, "test": 20}
TEXTS = ["a cat sat", "ünïcode – text", "", "the dog ran off with the cat"]


def write(
    folder: Path, modality: str, contents: list, labels: list[list[str]] | None = None
) -> PreparedDataset:
    labels = labels or [["x"], ["x", "z"], [], ["y"]]
    with DatasetWriter(folder, modality) as writer:
        writer.labels(["x", "y", "z"])
        for split in ("train", "val", "test"):
            for row, content in enumerate(contents):
                writer.split(split).add(f"{split}{row}", labels[row % len(labels)], content)
        writer.finish({"name": "tiny", "title": "Tiny", "fingerprint": "f"})
    return open_dataset(folder)


@pytest.fixture
def texts(tmp_path: Path) -> PreparedDataset:
    return write(tmp_path / "texts", "text", TEXTS)


def test_texts_come_back(texts: PreparedDataset) -> None:
    split = texts["train"]
    assert list(split.texts) == TEXTS
    assert split.texts[-1] == TEXTS[-1]
    assert split.texts[1:3] == TEXTS[1:3]
    with pytest.raises(IndexError):
        split.texts[4]


def test_images_and_vectors_come_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = list(rng.integers(0, 256, (5, 4, 6, 3), dtype=np.uint8))
    vectors = list(rng.normal(size=(5, 7)).astype(np.float32))
    first = write(tmp_path / "images", "image", images)["val"]
    second = write(tmp_path / "vectors", "vector", vectors)["val"]
    assert isinstance(first.images, np.memmap)
    assert np.array_equal(first.images, images)
    assert first.sizes.tolist() == [[4, 6]] * 5
    assert isinstance(second.vectors, np.memmap)
    assert np.array_equal(second.vectors, vectors)


def test_labels_come_back_sparse_and_dense(texts: PreparedDataset) -> None:
    expected = np.array([[1, 0, 0], [1, 0, 1], [0, 0, 0], [0, 1, 0]])
    split = texts["test"]
    assert split.labels.dtype == np.uint8
    assert np.array_equal(split.labels.toarray(), expected)
    assert np.array_equal(split.dense_labels(), expected)
    assert np.array_equal(split.dense_labels([3, 1, 3]), expected[[3, 1, 3]])
    assert np.array_equal(split.dense_labels(np.array([True, False, True, False])), expected[[0, 2]])
    assert split.dense_labels([]).shape == (0, 3)
    assert split.ids.tolist() == ["test0", "test1", "test2", "test3"]


def test_the_card_counts(texts: PreparedDataset) -> None:
    counts = texts.card["splits"]["train"]
    assert counts == {
        "examples": 4,
        "cardinality": 1.0,
        "density": 1 / 3,
        "empty_rows": 1,
        "label_counts": {"x": 2, "y": 1, "z": 1},
    }
    kinds = {warning["kind"]: warning["count"] for warning in texts.card["warnings"]}
    assert kinds["rows without labels in train"] == 1
    assert kinds["empty texts in val"] == 1


def test_labels_without_a_positive_are_kept_and_reported(tmp_path: Path) -> None:
    card = write(tmp_path / "data", "text", TEXTS, labels=[["x"]]).card
    assert card["labels"] == ["x", "y", "z"]
    warning = next(w for w in card["warnings"] if w["kind"] == "labels without a positive in test")
    assert (warning["count"], warning["examples"]) == (2, ["y", "z"])


def test_what_cannot_be_a_dataset_is_refused(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "a", "text") as writer:
        with pytest.raises(DataError, match="twice"):
            writer.labels(["x", "x"])
        with pytest.raises(DataError, match="no labels"):
            writer.labels([])
        writer.labels(["anger", "joy"])
        train = writer.split("train")
        train.add("1", ["joy"], "text")
        with pytest.raises(DataError, match=r"file:2: the id '1' occurs twice"):
            train.add("1", ["joy"], "text", where="file:2")
        with pytest.raises(DataError, match=r"file:3: label 'angr' is not in the list: did you mean anger"):
            train.add("2", ["angr"], "text", where="file:3")
        with pytest.raises(DataError, match=r"label 2 is not in the list"):
            train.add("3", [2], "text")
        with pytest.raises(DataError, match="split 'val' is empty"):
            writer.finish({})
    with DatasetWriter(tmp_path / "b", "vector") as writer:
        writer.labels(["x"])
        writer.split("train").add("1", [], np.zeros(3))
        with pytest.raises(DataError, match="shape"):
            writer.split("train").add("2", [], np.zeros(4))
        writer.split("val").add("1", [], np.zeros(3))
        writer.split("test").add("4", [], np.zeros(3))
        with pytest.raises(DataError, match="the id '1' is in train and in val"):
            writer.finish({})


def test_splits_of_another_width_are_refused(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "data", "vector") as writer:
        writer.labels(["x"])
        for split, width in (("train", 3), ("val", 3), ("test", 4)):
            writer.split(split).add(split, [], np.zeros(width))
        with pytest.raises(DataError, match=r"between the splits: train \(3,\), val \(3,\), test \(4,\)"):
            writer.finish({})


def test_the_card_names_files_whose_names_are_not_unicode(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "data", "text") as writer:
        writer.labels(["x"])
        for split in SMALL:
            writer.split(split).add(f"{split}\udcff", ["x"], "text")
        writer.warn("left out", "a\udcff.jpg")
        writer.finish({"name": "tiny", "title": "Tiny", "fingerprint": "f"})
    dataset = open_dataset(tmp_path / "data")
    assert dataset.card["warnings"][0]["examples"] == ["a\udcff.jpg"]
    assert dataset["val"].ids.tolist() == ["val\udcff"]


def test_opening_is_quick_and_another_modality_is_an_error(texts: PreparedDataset) -> None:
    start = time.perf_counter()
    for _ in range(10):
        open_dataset(texts.folder)
    assert (time.perf_counter() - start) / 10 < 0.05
    with pytest.raises(DataError, match="modality is text, not image"):
        _ = texts["train"].images
    with pytest.raises(DataError, match="unknown split 'trian': did you mean train"):
        _ = texts["trian"]


def test_a_damaged_dataset_is_not_opened(texts: PreparedDataset, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no prepared dataset"):
        open_dataset(tmp_path)
    path = texts.folder / "val" / "texts.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"val/texts\.bin: is "):
        open_dataset(texts.folder)


@pytest.mark.parametrize("kind", ["bpe", "word"])
def test_tokens_are_made_once_and_do_not_depend_on_the_process(tmp_path: Path, kind: str) -> None:
    many = [" ".join(f"word{(i * j) % 23}" for j in range(i % 7)) for i in range(60)]
    datasets = [write(tmp_path / str(copy), "text", many) for copy in range(2)]
    spec = {"kind": kind, "vocab_size": 40}
    first, second = (dataset["train"].tokens(spec) for dataset in datasets)
    assert np.array_equal(first.ids, second.ids)
    assert isinstance(first.ids, np.memmap)
    assert first.vocab_size <= 40
    folder = next((datasets[0].folder / "tokens").glob(f"{kind}-*"))
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    datasets[0]["test"].tokens(spec)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    open_dataset(datasets[0].folder)


@pytest.mark.slow
def test_a_saved_tokenizer_is_used_as_it_is(texts: PreparedDataset, tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"[UNK]": 0, "cat": 1, "dog": 2, "the": 3, "[PAD]": 4}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]")
    wrapped.save_pretrained(tmp_path / "saved")
    tokens = texts["train"].tokens({"kind": "huggingface", "name": str(tmp_path / "saved")})
    assert tokens.vocab_size == 5
    assert tokens.pad_id == 4
    assert tokens.ids[tokens.offsets[0] : tokens.offsets[1]].tolist() == [0, 1, 0]
    with pytest.raises(DataError, match="cannot be loaded"):
        texts["train"].tokens({"kind": "huggingface", "name": str(tmp_path / "nowhere")})


def test_batches_of_tokens_are_padded_and_cut(texts: PreparedDataset) -> None:
    tokens = texts["train"].tokens({"kind": "word", "vocab_size": 100})
    batch, mask = tokens.padded(np.array([0, 2, 3]), max_length=5)
    assert batch.shape == mask.shape == (3, 5)
    assert mask.sum(axis=1).tolist() == [3, 0, 5]
    assert (batch[~mask] == tokens.pad_id).all()
    assert batch[0, :3].tolist() == tokens.ids[tokens.offsets[0] : tokens.offsets[1]].tolist()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"kind": "bqe"}, "unknown kind 'bqe': did you mean bpe"),
        ({"kind": "bpe", "vocab": 3}, "unknown setting 'vocab'"),
        ({"kind": "bpe", "vocab_size": "many"}, "vocab_size must be a whole number"),
        ({"kind": "huggingface"}, "needs name"),
    ],
)
def test_a_wrong_tokenizer_is_an_error(texts: PreparedDataset, spec: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        texts["train"].tokens(spec)


@pytest.mark.parametrize("sampling", ["random", "stratified"])
def test_subsets_are_nested_and_seeded(tmp_path: Path, sampling: str) -> None:
    rng = np.random.default_rng(0)
    labels = [list(np.array(["x", "y", "z"])[rng.random(3) < (0.5, 0.1, 0.04)]) for _ in range(500)]
    split = write(tmp_path / "data", "text", ["t"] * 500, labels)["train"]
    rows = [subset(split, fraction, sampling, seed=3) for fraction in (0.05, 0.1, 0.33, 0.5, 1.0)]
    assert [len(chosen) for chosen in rows] == [25, 50, 165, 250, 500]
    for smaller, larger in pairwise(rows):
        assert set(smaller) <= set(larger)
        assert (np.diff(larger) > 0).all()
    assert np.array_equal(subset(split, 0.1, sampling, seed=3), rows[1])
    assert not np.array_equal(subset(split, 0.1, sampling, seed=4), rows[1])


def test_stratified_subsets_keep_label_frequencies_better_than_random_ones(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    labels = [list(np.array(["x", "y", "z"])[rng.random(3) < (0.5, 0.1, 0.04)]) for _ in range(800)]
    split = write(tmp_path / "data", "text", ["t"] * 800, labels)["train"]
    share = split.dense_labels().mean(axis=0)

    def error(sampling: str) -> float:
        chosen = [split.dense_labels(subset(split, 0.1, sampling, seed)).mean(axis=0) for seed in range(5)]
        return float(np.abs(np.array(chosen) / share - 1).mean())

    assert error("stratified") < 0.5 * error("random")


def test_a_wrong_subset_is_an_error(texts: PreparedDataset) -> None:
    with pytest.raises(DataError, match="fraction"):
        subset(texts["train"], 0)
    with pytest.raises(DataError, match="unknown sampling 'stratifed': did you mean stratified"):
        subset(texts["train"], 0.5, "stratifed")


def prepare_command(out: Path, settings: dict) -> list[str]:
    arguments = ["digit_scenes", "--out", str(out), "--settings", json.dumps(settings)]
    return [sys.executable, "-m", "data_prep", *arguments]


@pytest.mark.slow
def test_a_killed_preparation_leaves_no_dataset_and_the_next_one_finishes(tmp_path: Path) -> None:
    out = tmp_path / "scenes"
    process = subprocess.Popen(prepare_command(out, {"train": 100000}), cwd=REPOSITORY)
    deadline = time.monotonic() + 60
    while not (tmp_path / ".scenes.mlcl-preparing" / "train").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert not out.exists()
    subprocess.run(prepare_command(out, SMALL), cwd=REPOSITORY, check=True)
    assert len(open_dataset(out)["train"]) == SMALL["train"]
    assert not (tmp_path / ".scenes.mlcl-preparing").exists()


@pytest.mark.slow
def test_two_preparations_at_once_agree_whatever_the_hash_seed(tmp_path: Path) -> None:
    outs = [tmp_path / "one", tmp_path / "one", tmp_path / "two"]
    running = [
        subprocess.Popen(
            prepare_command(out, SMALL), cwd=REPOSITORY, env={**os.environ, "PYTHONHASHSEED": str(number)}
        )
        for number, out in enumerate(outs)
    ]
    assert [process.wait() for process in running] == [0, 0, 0]
    assert open_dataset(outs[0]).card["content_sha256"] == open_dataset(outs[2]).card["content_sha256"]


def test_a_failed_preparation_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    recipe = data_prep.plan("digit_scenes", SMALL, tmp_path, False)
    monkeypatch.setattr("data_prep.writer.SplitWriter.finish", full)
    with pytest.raises(DataError, match="no space left while writing"):
        data_prep.prepare(recipe, tmp_path, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == [".out.lock"]


def test_a_folder_with_something_else_is_never_replaced(tmp_path: Path) -> None:
    recipe = data_prep.plan("digit_scenes", SMALL, tmp_path, False)
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.tex").write_text("precious", encoding="utf-8")
    with pytest.raises(DataError, match="holds something that is no prepared dataset"):
        data_prep.prepare(recipe, tmp_path, tmp_path / "work")
    assert (tmp_path / "work" / "thesis.tex").read_text(encoding="utf-8") == "precious"


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = data_prep.plan("digit_scenes", SMALL, tmp_path, False)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DataError, match=r"needs the package sklearn.*pip install 'mlcl\[data\]'"):
        data_prep.prepare(recipe, tmp_path, tmp_path / "out")


def test_a_dataset_that_is_there_is_not_prepared_again_but_another_is_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = data_prep.plan("digit_scenes", SMALL, tmp_path, False)
    data_prep.prepare(first, tmp_path, out)
    written = (out / "card.json").stat().st_mtime_ns
    data_prep.prepare(first, tmp_path, out)
    assert (out / "card.json").stat().st_mtime_ns == written
    data_prep.prepare(data_prep.plan("digit_scenes", {**SMALL, "train": 61}, tmp_path, False), tmp_path, out)
    assert len(open_dataset(out)["train"]) == 61


def test_a_dataset_of_another_format_is_refused_and_prepared_again(tmp_path: Path) -> None:
    recipe, out = data_prep.plan("digit_scenes", SMALL, tmp_path, False), tmp_path / "out"
    data_prep.prepare(recipe, tmp_path, out)
    card = (out / "card.json").read_text(encoding="utf-8")
    assert '"format": 1,' in card
    (out / "card.json").write_text(card.replace('"format": 1,', '"format": 3,'), encoding="utf-8")
    with pytest.raises(
        DataError, match=r"card\.json: has format 3, this version reads formats 1 and 2; delete"
    ):
        open_dataset(out)
    data_prep.prepare(recipe, tmp_path, out)
    assert open_dataset(out).card["format"] == 1


def test_a_dataset_whose_card_was_deleted_gets_it_back(tmp_path: Path) -> None:
    """Snakemake deletes the output of a job that it did not see finish."""
    recipe, out = data_prep.plan("digit_scenes", SMALL, tmp_path, False), tmp_path / "out"
    data_prep.prepare(recipe, tmp_path, out)
    card, written = (out / "card.json").read_bytes(), (out / "train" / "images.npy").stat().st_ino
    (out / "card.json").unlink()
    data_prep.prepare(recipe, tmp_path, out)
    assert (out / "card.json").read_bytes() == card
    assert (out / "train" / "images.npy").stat().st_ino == written  # not made again
    (out / "card.json").unlink()
    (out / "train" / "images.npy").write_bytes(b"cut")
    data_prep.prepare(recipe, tmp_path, out)
    assert len(open_dataset(out)["train"]) == SMALL["train"]


def test_folders_of_the_user_beside_the_dataset_are_left_alone(tmp_path: Path) -> None:
    for name in ("out.old", "out.tmp", "out.part", "out~"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes.txt").write_text("mine", encoding="utf-8")
    before = sorted(path.name for path in tmp_path.iterdir())
    for train in (60, 61):
        recipe = data_prep.plan("digit_scenes", {**SMALL, "train": train}, tmp_path, False)
        data_prep.prepare(recipe, tmp_path, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*before, "out", ".out.lock"])
    assert all((tmp_path / name / "notes.txt").read_text(encoding="utf-8") == "mine" for name in before)
