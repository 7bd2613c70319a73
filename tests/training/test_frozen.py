"""Frozen encoders: features computed once, right, shared, and made anew when anything they depend on changes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny import cell, run
from torch import Tensor, nn

from mlcl import encoders
from mlcl.data import PreparedDataset, open_dataset
from mlcl.training import batches, frozen
from mlcl.training.context import Context
from mlcl.training.settings import CellSettings

FROZEN = {"freeze": True}


@pytest.fixture(params=["images", "texts", "vectors"])
def dataset(request: pytest.FixtureRequest, tmp_path: Path) -> PreparedDataset:
    """A copy with nothing beside it."""
    source: PreparedDataset = request.getfixturevalue(request.param)
    return copied(source, tmp_path)


@pytest.fixture
def pictures(images: PreparedDataset, tmp_path: Path) -> PreparedDataset:
    return copied(images, tmp_path)


def copied(source: PreparedDataset, folder: Path) -> PreparedDataset:
    shutil.copytree(source.folder, folder / "copy", ignore=shutil.ignore_patterns("features"))
    return open_dataset(folder / "copy")


class Counted:
    """How many rows go through encoders (not through what is trained on stored features)."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows = 0
        create = encoders.create

        def spied(*given: Any) -> nn.Module:
            encoder = create(*given)
            encoder.register_forward_hook(self._count)
            return encoder

        monkeypatch.setattr(encoders, "create", spied)

    def _count(self, module: nn.Module, given: Any, features: Tensor) -> None:
        self.rows += len(features)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(monkeypatch)


def context(settings: CellSettings, dataset: PreparedDataset) -> Context:
    return Context(settings, dataset, torch.device("cpu"), lambda line: None)


def caches(dataset: PreparedDataset) -> list[str]:
    return sorted(folder.name for folder in (dataset.folder / frozen.FOLDER).glob("[!.]*"))


def test_they_are_computed_once_for_all_losses(dataset: PreparedDataset, counted: Counted) -> None:
    for loss in ("bce", "mulsupcon", "joint", "kmcl"):
        training = {"augmentation": "basic", "feature_masking": 0}
        outcome = run(cell(dataset, loss, encoder=FROZEN, training=training), dataset)
        assert outcome.scores["test"].shape == (30, 4)
        assert counted.rows == 60 + 30 + 30, loss
    assert len(caches(dataset)) == 1


def test_they_are_what_the_encoder_says(dataset: PreparedDataset) -> None:
    made = context(cell(dataset, "bce", encoder=FROZEN), dataset)
    encoder = made.raw_encoder().eval()
    for split in ("train", "val", "test"):
        stored = frozen.stored_features(made, split)
        inputs = batches.open_inputs(dataset, split, made.encoder_settings)
        with torch.no_grad():
            direct = encoder(inputs.take(np.arange(len(inputs)), torch.device("cpu")))
        assert isinstance(stored, np.memmap)
        assert stored.dtype == np.float32
        assert np.allclose(stored, direct.numpy(), atol=1e-5)


def test_training_on_them_leaves_them_and_changes_what_is_evaluated(dataset: PreparedDataset) -> None:
    settings = cell(dataset, "mulsupcon", encoder=FROZEN)
    before = {
        split: np.array(frozen.stored_features(context(settings, dataset), split))
        for split in ("train", "test")
    }
    outcome = run(settings, dataset)
    for split, features in before.items():
        assert np.array_equal(frozen.stored_features(context(settings, dataset), split), features)
    assert outcome.features["test"].shape == before["test"].shape
    assert not np.allclose(outcome.features["test"], before["test"], atol=1e-3)


def test_the_untrained_encoder_s_own_features_are_evaluated(dataset: PreparedDataset) -> None:
    settings = cell(dataset, None, "random_encoder", encoder=FROZEN)
    outcome = run(settings, dataset)
    assert np.array_equal(
        outcome.features["test"], frozen.stored_features(context(settings, dataset), "test")
    )
    thawed = run(cell(dataset, None, "random_encoder"), dataset)
    assert np.allclose(outcome.features["test"], thawed.features["test"], atol=1e-5)
    assert np.allclose(outcome.scores["test"], thawed.scores["test"], atol=1e-3)


def test_a_subset_reads_its_rows(pictures: PreparedDataset) -> None:
    part = {"source": "tiny", "settings": {}, "subset": {"fraction": 0.5}}
    made = context(cell(pictures, "bce", encoder=FROZEN, dataset=part), pictures)
    assert len(made.train_rows) == 30
    features = made.encode(made.new_encoder(adapter=False), "train").numpy()
    assert np.array_equal(features, frozen.stored_features(made, "train")[made.train_rows])


# What they depend on


def key(dataset: PreparedDataset, loss: str = "bce", **changes: Any) -> str:
    encoder = FROZEN | changes.pop("encoder", {})
    return frozen._key(context(cell(dataset, loss, encoder=encoder, **changes), dataset))


def test_the_key_is_that_of_the_encoder_not_of_the_loss_or_its_training(images: PreparedDataset) -> None:
    same = key(images)
    assert key(images, "mulsupcon") == same
    assert key(images, training={"learning_rate": 0.3}) == same
    assert key(images, seed=1) != same, "random weights are the seed's"
    assert key(images, encoder={"width": 5}) != same
    assert key(images, compute={"threads": 2, "device": "cpu"}) != same


@pytest.fixture
def clean_sources() -> Iterator[None]:
    yield
    frozen._sources.cache_clear()


def test_the_key_knows_the_encoders_source(
    images: PreparedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clean_sources: None
) -> None:
    before = key(images)
    shutil.copytree(frozen.PACKAGE / "encoders", tmp_path / "encoders")
    monkeypatch.setattr(frozen, "PACKAGE", tmp_path)
    monkeypatch.setattr(frozen, "SOURCES", ("encoders/*.py",))
    frozen._sources.cache_clear()
    copy = key(images)
    (tmp_path / "encoders" / "cnn.py").write_text("# another\n")
    frozen._sources.cache_clear()
    assert len({before, copy, key(images)}) == 3


def test_all_that_is_hashed_is_there() -> None:
    for pattern in frozen.SOURCES:
        assert list(frozen.PACKAGE.glob(pattern)), pattern


def test_pretrained_weights_are_shared_by_seeds_and_known_by_content(
    images: PreparedDataset, tmp_path: Path
) -> None:
    from mlcl.encoders import InputShape

    weights = tmp_path / "resnet18.safetensors"

    def store(seed: int) -> None:
        torch.manual_seed(seed)
        net: Any = encoders.create("resnet18", {}, InputShape(channels=3, height=16, width=16))
        save_file({name: value.contiguous() for name, value in net.net.state_dict().items()}, weights)

    store(0)
    encoder = {"name": "resnet18", "weights": str(weights), "freeze": True}
    first = key(images, encoder=encoder)
    assert key(images, encoder=encoder, seed=3) == first
    store(1)
    assert key(images, encoder=encoder) != first


# Killed, and asked for twice


def test_a_kill_in_the_middle_leaves_no_cache(
    pictures: PreparedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = context(cell(pictures, "bce", encoder=FROZEN), pictures)
    encode, done = type(made).encode_rows, []

    def killed(*given: Any) -> Tensor:
        if done:
            raise KeyboardInterrupt
        done.append(encode(*given))
        return done[0]

    with monkeypatch.context() as patched:
        patched.setattr(type(made), "encode_rows", killed)
        with pytest.raises(KeyboardInterrupt):
            frozen.stored_features(made, "train")
    folder = pictures.folder / frozen.FOLDER
    assert [path.name.endswith(".tmp") for path in folder.glob("[!.]*")] == [True], "half of it lies aside"
    expected = frozen.stored_features(made, "test")
    assert len(expected) == 30
    assert list(folder.glob("*.tmp")) == []
    assert caches(pictures) == [frozen._key(made)]


def test_two_at_once_compute_them_once(pictures: PreparedDataset, counted: Counted) -> None:
    """Threads stand for processes: the lock is on a file."""
    cells = [cell(pictures, loss, encoder=FROZEN) for loss in ("bce", "mulsupcon")]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda item: frozen.stored_features(context(item, pictures), "val"), cells))
    assert np.array_equal(found[0], found[1])
    assert counted.rows == 120


PROCESS = """
import sys
from mlcl.data import open_dataset
from mlcl.training.run import train
from mlcl.training.settings import CellSettings

settings = CellSettings.model_validate_json(sys.stdin.read())
outcome = train(settings, open_dataset(sys.argv[1]), lambda line: None)
print(outcome.scores["test"].tobytes().hex())
"""


@pytest.mark.slow
def test_two_processes_at_once_give_the_same_scores(pictures: PreparedDataset) -> None:
    settings = cell(pictures, "bce", encoder=FROZEN).model_dump_json()
    command = [sys.executable, "-c", PROCESS, str(pictures.folder)]
    started = [
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
        )
        for _ in range(2)
    ]
    for process in started:
        assert process.stdin is not None
        process.stdin.write(settings)
        process.stdin.close()
        process.stdin = None
    found = [process.communicate(timeout=120)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0]
    assert found[0] == found[1] != ""
    assert len(caches(pictures)) == 1
