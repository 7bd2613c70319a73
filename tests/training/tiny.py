"""Tiny datasets, one per modality, and cells on them that train within a moment."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel

from data_prep.writer import DatasetWriter
from mlcl import encoders, losses
from mlcl.data import PreparedDataset, open_dataset
from mlcl.training import protocols
from mlcl.training.launch import train
from mlcl.training.outcome import Outcome
from mlcl.training.settings import CellSettings

SIZES = {"train": 60, "val": 30, "test": 30}
LABELS = ["red", "green", "blue", "loud"]
ENCODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "image": ("cnn", {"width": 4}),
    "text": ("transformer", {"dim": 16, "heads": 2, "feedforward": 16, "max_length": 8}),
    "vector": ("mlp", {"hidden": [16]}),
}
GRID = {"learning_rates": [0.1], "weight_decays": [0.01], "heads": 1, "epochs": 3, "batch_size": 32}
FEW = {"epochs": 2, "batch_size": 16, "learning_rate": 0.01, "steps_per_epoch": None}


def prepare(modality: str, folder: Path, shown: bool = True) -> PreparedDataset:
    """Rows that show their labels, with noise, or (`shown=False`) those of other rows; each has one or more of four."""
    rng = np.random.default_rng(0)
    with DatasetWriter(folder, modality) as writer:
        writer.labels(LABELS)
        for split, size in SIZES.items():
            for number in range(size):
                present = rng.random(len(LABELS)) < 0.4
                present[number % len(LABELS)] = True
                content = _CONTENT[modality](present if shown else rng.permutation(present), rng)
                writer.split(split).add(f"{split}-{number}", np.flatnonzero(present), content)
        writer.finish({"name": f"tiny_{modality}", "fingerprint": modality})
    return open_dataset(folder)


def _image(present: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    image = rng.integers(0, 80, (16, 16, 3))
    image[..., :3] += 120 * present[:3]
    image[:, :8] += 40 * present[3]
    return image.clip(0, 255).astype(np.uint8)


def _text(present: np.ndarray, rng: np.random.Generator) -> str:
    words = [*np.array(LABELS)[present], *rng.choice(["a", "of", "the", "and", "so"], 4)]
    return " ".join(rng.permutation(words))


def _vector(present: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return (3 + np.concatenate([2 * present, [0, 0]]) + rng.normal(0, 0.5, 6)).astype(np.float32)


_CONTENT: dict[str, Any] = {"image": _image, "text": _text, "vector": _vector}


def cell(
    dataset: PreparedDataset,
    loss: str | None,
    protocol: str | None = None,
    /,
    *,
    encoder: dict[str, Any] | None = None,
    training: dict[str, Any] | None = None,
    hyperparameters: dict[str, Any] | None = None,
    seed: int = 0,
    **changes: Any,
) -> CellSettings:
    """A cell of one of these datasets, with the defaults of its protocol but for `FEW` and `training`.

    encoder: settings that differ from those in `ENCODERS`, and maybe another `name`.
    """
    name, settings = ENCODERS[dataset.modality]
    settings = (settings if "name" not in (encoder or {}) else {}) | (encoder or {})
    name = settings.pop("name", name)
    protocol = protocol or protocols.DEFAULT[losses.describe(loss).inputs]  # type: ignore[arg-type]
    module = protocols.load(protocol)
    given = module.Settings.model_validate(FEW | (training or {})) if module.Settings else None
    values = {
        "seed": seed,
        "protocol": protocol,
        "dataset": {"source": dataset.name, "settings": {}, "subset": {}},
        "encoder": {
            "name": name,
            "settings": encoders.describe(name).settings.model_validate(settings).model_dump(),
        },
        "loss": {"name": loss, "file": None, "hyperparameters": losses.validate(loss, hyperparameters or {})}
        if loss
        else None,
        "training": given.model_dump(mode="json") if given else None,
        "readouts": _readouts(module, given),
        "linear_evaluation": GRID if "linear" in _readouts(module, given) else None,
        "compute": {"threads": 1, "device": "cpu"},
    }
    return CellSettings.model_validate(values | changes)


def _readouts(module: ModuleType, training: BaseModel | None) -> list[str]:
    """One is enough: the head where there is one, otherwise linear evaluation."""
    if protocols.has_head(module, training.model_dump() if training else None):
        return ["head"]
    return [] if module.__name__.endswith(("label_prior", ".random")) else ["linear"]


def run(settings: CellSettings, dataset: PreparedDataset) -> Outcome:
    return train(settings, dataset, lambda line: None)


def only_scores(outcome: Outcome) -> dict[str, np.ndarray]:
    """split -> scores, of a cell with one readout."""
    (scores,) = outcome.scores.values()
    return scores


def labels(dataset: PreparedDataset, split: str) -> np.ndarray:
    return dataset[split].dense_labels()


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    return prepare("image", tmp_path_factory.mktemp("images") / "prepared")


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    return prepare("text", tmp_path_factory.mktemp("texts") / "prepared")


@pytest.fixture(scope="session")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    return prepare("vector", tmp_path_factory.mktemp("vectors") / "prepared")
