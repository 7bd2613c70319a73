"""Features of frozen encoders: correct, computed once, shared, and computed anew when a dependency changes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from tiny import cell, only_scores, run
from torch import Tensor, nn

from mlcl import encoders
from mlcl.data import PreparedDataset, open_dataset
from mlcl.training import feature_cache
from mlcl.training.context import FEATURES, Context
from mlcl.training.events import FeatureProgress
from mlcl.training.inputs import batches
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
    return sorted(folder.name for folder in (dataset.folder / FEATURES).glob("[!.]*"))


def test_features_are_computed_once_for_all_losses(dataset: PreparedDataset, counted: Counted) -> None:
    for loss in ("bce", "mulsupcon", "joint", "kmcl"):
        training = {"augmentation": "basic", "feature_masking": 0}
        outcome = run(cell(dataset, loss, encoder=FROZEN, training=training), dataset)
        assert only_scores(outcome)["test"].shape == (30, 4)
        assert counted.rows == 60 + 30 + 30, loss
    assert len(caches(dataset)) == 1


def test_stored_features_equal_the_encoder_s_output(dataset: PreparedDataset) -> None:
    made = context(cell(dataset, "bce", encoder=FROZEN), dataset)
    encoder = made.raw_encoder().eval()
    for split in ("train", "val", "test"):
        stored = made.features(split)
        inputs = batches.open_inputs(dataset, split, made.encoder_settings)
        with torch.no_grad():
            direct = encoder(inputs.take(np.arange(len(inputs)), torch.device("cpu")))
        assert isinstance(stored, np.memmap)
        assert stored.dtype == np.float32
        assert np.allclose(stored, direct.numpy(), atol=1e-5)


def test_texts_are_encoded_from_the_longest_to_the_shortest(
    texts: PreparedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = copied(texts, tmp_path)
    padded: list[int] = []
    form = batches.Texts.form

    def noted(inputs: batches.Texts, tensors: batches.Tensors) -> Any:
        padded.append(tensors[0].shape[1])
        return form(inputs, tensors)

    monkeypatch.setattr(batches.Texts, "form", noted)
    sizes = {"evaluation_batch_size": 8}
    context(cell(dataset, "bce", encoder=FROZEN, compute=sizes), dataset).features("train")
    rows = [len(range(0, len(dataset[split]), 8)) for split in ("train", "val", "test")]
    ends = np.cumsum(rows)
    assert len(padded) == ends[-1]
    for part in np.split(np.array(padded), ends[:-1]):
        assert (np.diff(part) <= 0).all()
    assert len(set(padded)) > 1


def test_features_report_how_far_they_are(dataset: PreparedDataset) -> None:
    told: list[Any] = []
    one = Context(cell(dataset, "bce", encoder=FROZEN), dataset, torch.device("cpu"), told.append)
    one.features("test")
    one.features("test")
    last = {event.split: (event.rows, event.of_rows, event.seconds_left) for event in told}
    assert last == {
        split: (len(dataset[split]), len(dataset[split]), 0) for split in ("train", "val", "test")
    }
    assert all(isinstance(event, FeatureProgress) and event.seconds_left >= 0 for event in told)


def test_training_changes_evaluated_features_but_not_stored_ones(dataset: PreparedDataset) -> None:
    settings = cell(dataset, "mulsupcon", encoder=FROZEN)
    before = {split: np.array(context(settings, dataset).features(split)) for split in ("train", "test")}
    outcome = run(settings, dataset)
    for split, features in before.items():
        assert np.array_equal(context(settings, dataset).features(split), features)
    assert outcome.features["test"].shape == before["test"].shape
    assert not np.allclose(outcome.features["test"], before["test"], atol=1e-3)


def test_the_trained_layer_may_be_narrower_than_the_features(dataset: PreparedDataset) -> None:
    narrow = FROZEN | {"adapter_dim": 3}
    for loss in ("mulsupcon", "bce"):
        outcome = run(cell(dataset, loss, encoder=narrow), dataset)
        assert outcome.features["test"].shape == (30, 3)
        assert (outcome.features["test"] >= 0).all()
    untrained = run(cell(dataset, None, "random_encoder", encoder=narrow), dataset)
    stored = context(cell(dataset, "bce", encoder=narrow), dataset).features("test")
    assert np.array_equal(untrained.features["test"], stored), "the baseline's features are the encoder's own"


def test_a_layer_needs_a_frozen_encoder(dataset: PreparedDataset) -> None:
    part = cell(dataset, "bce").encoder
    assert part is not None
    settings = encoders.describe(part.name).settings
    with pytest.raises(ValidationError, match=r"adapter_dim: .* freeze: true"):
        settings.model_validate(part.settings | {"adapter_dim": 3})
    assert "adapter_dim" not in settings.model_validate(part.settings).model_dump(), (
        "fingerprints stay the same"
    )


def test_the_untrained_encoder_s_own_features_are_evaluated(dataset: PreparedDataset) -> None:
    settings = cell(dataset, None, "random_encoder", encoder=FROZEN)
    outcome = run(settings, dataset)
    assert np.array_equal(outcome.features["test"], context(settings, dataset).features("test"))
    thawed = run(cell(dataset, None, "random_encoder"), dataset)
    assert np.allclose(outcome.features["test"], thawed.features["test"], atol=1e-5)
    assert np.allclose(only_scores(outcome)["test"], only_scores(thawed)["test"], atol=1e-3)


def test_a_subset_reads_its_rows(pictures: PreparedDataset) -> None:
    part = {"source": "tiny", "settings": {}, "subset": {"fraction": 0.5}}
    made = context(cell(pictures, "bce", encoder=FROZEN, dataset=part), pictures)
    assert len(made.train_rows) == 30
    features = made.encode(made.new_encoder(adapter=False), "train").numpy()
    assert np.array_equal(features, made.features("train")[made.train_rows])


# What the cache depends on


def key(dataset: PreparedDataset, loss: str = "bce", **changes: Any) -> str:
    """The folder that the features of the cell's encoder lie in."""
    encoder = FROZEN | changes.pop("encoder", {})
    features: Any = context(cell(dataset, loss, encoder=encoder, **changes), dataset).features("val")
    return Path(features.filename).parent.name


def test_the_key_is_that_of_the_encoder_not_of_the_loss_or_its_training(pictures: PreparedDataset) -> None:
    same = key(pictures)
    assert key(pictures, "mulsupcon") == same
    assert key(pictures, training={"learning_rate": 0.3}) == same
    assert key(pictures, encoder={"adapter_dim": 3}) == same
    assert key(pictures, seed=1) != same, "random weights are the seed's"
    assert key(pictures, encoder={"width": 5}) != same
    assert key(pictures, compute={"threads": 2, "device": "cpu"}) != same


def test_the_key_depends_on_the_encoders_source(
    pictures: PreparedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = key(pictures)
    packages = [tmp_path / "same", tmp_path / "changed"]
    for package in packages:
        for pattern in feature_cache.SOURCES:
            for file in feature_cache.PACKAGE.glob(pattern):
                copy = package / file.relative_to(feature_cache.PACKAGE)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy)
    (packages[1] / "encoders" / "cnn.py").write_text("# another\n")
    keys = []
    for package in packages:
        monkeypatch.setattr(feature_cache, "PACKAGE", package)
        keys.append(key(pictures))
    assert keys[0] == before != keys[1]


def test_hashed_sources_exist() -> None:
    for pattern in feature_cache.SOURCES:
        assert list(feature_cache.PACKAGE.glob(pattern)), pattern


def test_pretrained_weights_are_shared_by_seeds_and_keyed_by_content(
    pictures: PreparedDataset, tmp_path: Path
) -> None:
    from mlcl.encoders import InputShape

    weights = tmp_path / "resnet18.safetensors"

    def store(seed: int) -> None:
        torch.manual_seed(seed)
        net: Any = encoders.create("resnet18", {}, InputShape(channels=3, height=16, width=16))
        save_file({name: value.contiguous() for name, value in net.net.state_dict().items()}, weights)

    store(0)
    encoder = {"name": "resnet18", "weights": str(weights), "freeze": True}
    first = key(pictures, encoder=encoder)
    assert key(pictures, encoder=encoder, seed=3) == first
    store(1)
    assert key(pictures, encoder=encoder) != first


# Kills and concurrency


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
            made.features("train")
    folder = pictures.folder / FEATURES
    assert [path.name.endswith(".tmp") for path in folder.glob("[!.]*")] == [True], "half of it lies aside"
    expected = made.features("test")
    assert len(expected) == 30
    assert list(folder.glob("*.tmp")) == []
    assert len(caches(pictures)) == 1


def test_concurrent_cells_compute_features_once(pictures: PreparedDataset, counted: Counted) -> None:
    """Threads stand for processes: the lock is on a file."""
    cells = [cell(pictures, loss, encoder=FROZEN) for loss in ("bce", "mulsupcon")]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda item: context(item, pictures).features("val"), cells))
    assert np.array_equal(found[0], found[1])
    assert counted.rows == 120


PROCESS = """
import sys
from mlcl.data import open_dataset
from mlcl.training.launch import train
from mlcl.training.settings import CellSettings

settings = CellSettings.model_validate_json(sys.stdin.read())
outcome = train(settings, open_dataset(sys.argv[1]), lambda line: None)
print(next(iter(outcome.scores.values()))["test"].tobytes().hex())
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
