"""Damaged prepared datasets, tokens and features: named, and refused or made again; never read in silence."""

from __future__ import annotations

import os
import random
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest

from data_prep import DataError
from data_prep.writer import DatasetWriter
from mlcl.data import open_dataset
from mlcl.data import verify as verifying
from mlcl.training.feature_cache import cached_features
from tests.faults.damage import damage

DAMAGES = int(os.environ.get("MLCL_DAMAGES", "60"))
QUICK = 20
TOKENIZER = {"kind": "word", "vocab_size": 40}


def make(folder: Path, first_word: str) -> None:
    """A dataset of texts with tokens and stored features."""
    with DatasetWriter(folder, "text") as writer:
        writer.labels(["a", "b", "c"])
        for split in ("train", "val", "test"):
            for row in range(12):
                writer.split(split).add(
                    f"{split}-{row}", [row % 3], f"{first_word} word{row} and word{row % 5}"
                )
        writer.finish({"name": "tiny", "fingerprint": first_word})
    read(folder)


def read(folder: Path) -> list[np.ndarray]:
    """All that training would read."""
    dataset = open_dataset(folder)
    found: list[np.ndarray] = []
    for split in ("train", "val", "test"):
        part = dataset[split]
        tokens = part.tokens(TOKENIZER)
        features = cached_features(
            folder / "features", {"encoder": "e", "data": dataset.content}, split, _features
        )
        found += [
            part.ids,
            part.dense_labels(),
            np.array(list(part.texts)),
            tokens.ids,
            tokens.offsets,
            features,
        ]
        found.append(np.array(dataset.label_names))
    return [np.array(values) for values in found]


def _features() -> list[tuple[str, np.ndarray]]:
    return [(split, np.arange(24, dtype=np.float32).reshape(12, 2)) for split in ("train", "val", "test")]


@pytest.fixture(scope="module")
def two_datasets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    make(folder / "one", "first")
    make(folder / "two", "other")
    return folder


def silence(whole: Path, folder: Path, seed: int) -> str | None:
    """Damages one file at random; what was damaged, if nothing names it or other arrays are read; else None."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole, folder)
    draw = random.Random(seed)
    files = [
        path for path in sorted((folder / "one").rglob("*")) if path.is_file() and path.suffix != ".lock"
    ]
    file = draw.choice([path for path in files if path.name != ".card.json"])
    twin = folder / "two" / file.relative_to(folder / "one")
    twins = [path for path in folder.rglob(file.name) if path != file] + [twin] * twin.exists()
    what = f"seed {seed}: {damage(file, twins, draw)} {file.relative_to(folder)}"
    if (
        not any(file.name in defect for defect in verifying.defects(folder / "one"))
        and twin.read_bytes() != file.read_bytes()
    ):
        return f"{what}: verify does not find it"
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            now = read(folder / "one")
        except DataError as error:
            return None if file.name in str(error) else f"{what}: {error}"
    named = any(file.name in str(line.message) for line in told)
    expected = read(whole / "one")
    same = all(np.array_equal(a, b) for a, b in zip(now, expected, strict=True))
    needed = file.name != "tokenizer.json"
    return None if same and (named or not needed) else f"{what}: named: {named}, the same: {same}"


def test_damages_are_named_in_a_sample(two_datasets: Path, tmp_path: Path) -> None:
    assert [line for seed in range(QUICK) if (line := silence(two_datasets, tmp_path / "copy", seed))] == []


@pytest.mark.slow
def test_no_damage_is_accepted_in_silence(two_datasets: Path, tmp_path: Path) -> None:
    found = (silence(two_datasets, tmp_path / "copy", seed) for seed in range(QUICK, DAMAGES))
    assert [line for line in found if line] == []


def test_a_damaged_dataset_is_prepared_again(tmp_path: Path) -> None:
    import data_prep

    (tmp_path / "d.csv").write_text("text,labels\n" + "".join(f"text {i},{'ab'[i % 2]}\n" for i in range(40)))
    recipe = data_prep.plan(
        "table",
        {"path": "d.csv", "text": "text", "label_list": "labels"},
        tmp_path,
        accept_local=False,
    )
    data_prep.prepare(recipe, tmp_path, tmp_path / "out")
    file = tmp_path / "out" / "train" / "label_ids.npy"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(
        DataError, match=r"label_ids\.npy: is not what was written.*prepare the dataset again"
    ):
        open_dataset(tmp_path / "out")
    data_prep.prepare(recipe, tmp_path, tmp_path / "out")
    assert open_dataset(tmp_path / "out")["train"].folder.joinpath("label_ids.npy").read_bytes() == content
