"""Every encoder family and every protocol trains two epochs on real data, twice with equal metrics: the second time
killed and terminated on the way, and resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from interrupt import Killed, at_step, kill, terminate
from tiny import cell, only_scores, run

import data_prep
from data_prep.writer import DatasetWriter
from mlcl.data import PreparedDataset, open_dataset
from mlcl.evaluation.metrics import evaluate
from mlcl.training.events import Interrupted
from mlcl.training.launch import train
from mlcl.training.outcome import Outcome
from mlcl.training.settings import CellSettings

pytestmark = pytest.mark.slow

ROWS = {"train": 480, "val": 120, "test": 160}
"""Rows of each split that are kept: enough to see the parts work, few enough for a moment."""
SOURCES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "image": ("miml_scene", "miml_scene", {"size": 32}),
    "text": ("goemotions", "goemotions", {}),
    "vector": ("mulan_yeast", "mulan/yeast", {}),
}
"""Modality -> source, the folder of its raw files, settings."""


def first_rows(source: PreparedDataset, folder: Path) -> PreparedDataset:
    """The first rows of each split, as a dataset of its own."""
    with DatasetWriter(folder, source.modality) as writer:
        writer.labels(source.label_names)
        for name, count in ROWS.items():
            split = source[name]
            match source.modality:
                case "image":
                    contents: Any = split.images
                case "text":
                    contents = split.texts
                case _:
                    contents = split.vectors
            present = split.dense_labels(slice(count))
            for row in range(count):
                writer.split(name).add(str(split.ids[row]), np.flatnonzero(present[row]), contents[row])
        writer.finish({"name": source.name, "fingerprint": f"{source.fingerprint}, first rows"})
    return open_dataset(folder)


@pytest.fixture(scope="session")
def real(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, PreparedDataset]:
    """One dataset for each modality; skipped where the raw files are not there."""
    made = {}
    for modality, (source, raw, settings) in SOURCES.items():
        if not (data_root / raw).is_dir():
            pytest.skip(f"no raw files of {source} at {data_root / raw}")
        folder = tmp_path_factory.mktemp(source)
        data_prep.prepare(data_prep.plan(source, settings, data_root, False), data_root, folder / "whole")
        made[modality] = first_rows(open_dataset(folder / "whole"), folder / "first")
    return made


def interrupted(settings: CellSettings, dataset: PreparedDataset, folder: Path, steps: int) -> Outcome:
    """The outcome of a training that is killed in its second half, goes on from the end of an epoch, is asked to end
    after one more step, and goes on from there."""

    def go_on() -> Outcome:
        return train(settings, dataset, lambda news: None, folder)

    with at_step(steps // 2 + 1, kill), pytest.raises(Killed):
        go_on()
    assert any(folder.iterdir()), "the first epoch was over"
    with at_step(1, terminate), pytest.raises(Interrupted):
        go_on()
    return go_on()


def twice(settings: CellSettings, dataset: PreparedDataset, folder: Path) -> Outcome:
    """Trains two times, the second time with interruptions; all that comes out is equal, bit for bit, and finite."""
    with at_step(0, kill) as steps:
        first = run(settings, dataset)
    second = interrupted(settings, dataset, folder, len(steps)) if steps else run(settings, dataset)
    for split in ("val", "test"):
        truth = dataset[split].dense_labels()
        metrics = [evaluate(truth, only_scores(outcome)[split]) for outcome in (first, second)]
        assert metrics[0] == metrics[1]
        assert np.isfinite(only_scores(first)[split]).all()
        assert np.array_equal(only_scores(first)[split], only_scores(second)[split])
        assert np.array_equal(first.features[split], second.features[split])
        assert first.features[split].std() > 0
    if first.fitted is not None and first.fitted.curve:
        curves = [[line.loss for line in outcome.fitted.curve] for outcome in (first, second)]  # type: ignore[union-attr]
        assert curves[0] == curves[1]
        assert np.isfinite(curves[0]).all()
    return first


SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
BPE = {"kind": "bpe", "vocab_size": 400}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "cnn": ("image", {"name": "cnn", "width": 8}),
    "resnet18": ("image", {"name": "resnet18"}),
    "shufflenet": ("image", {"name": "shufflenet_v2_x0_5"}),
    "timm": ("image", {"name": "timm", "model": "test_resnet"}),
    "timm vit": ("image", {"name": "timm", "model": "test_vit"}),
    "transformer": ("text", {"name": "transformer", "dim": 32, "feedforward": 32}),
    "bert": (
        "text",
        {
            "name": "huggingface",
            "config": {"model_type": "bert", **SIZES},
            "tokenizer": BPE,
            "max_length": 24,
        },
    ),
    "bert, in chunks": (
        "text",
        {
            "name": "huggingface",
            "config": {"model_type": "bert", **SIZES},
            "tokenizer": BPE,
            "max_length": 8,
            "max_chunks": 4,
        },
    ),
    "llama with adapters": (
        "text",
        {
            "name": "decoder",
            "config": {"model_type": "llama", **SIZES, "num_key_value_heads": 2},
            "tokenizer": BPE,
            "max_length": 24,
            "lora": {"rank": 2, "alpha": 4},
        },
    ),
    "mlp": ("vector", {"name": "mlp", "hidden": [32, 16]}),
}
HEAVY = {"resnet18": 0.15}
"""Larger networks see a smaller part of the rows. torchvision's vision transformers are too large for this test; timm
has a tiny one."""


@pytest.mark.parametrize("family", FAMILIES)
def test_every_encoder_family_trains(real: dict[str, PreparedDataset], family: str, tmp_path: Path) -> None:
    modality, encoder = FAMILIES[family]
    part = {"source": "real", "settings": {}, "subset": {"fraction": HEAVY.get(family, 0.5)}}
    settings = cell(real[modality], "bce", encoder=encoder, training={"learning_rate": 1e-3}, dataset=part)
    outcome = twice(settings, real[modality], tmp_path)
    curve = outcome.fitted.curve  # type: ignore[union-attr]
    assert [line.epoch for line in curve] == [1, 2]
    assert curve[1].loss < curve[0].loss


PROTOCOLS: dict[str, tuple[str | None, str, dict[str, Any]]] = {
    "contrastive_linear": ("reg", "contrastive_linear", {"projection_dim": 32}),
    "end_to_end": ("zlpr", "end_to_end", {"selection": "best_val_micro_f1"}),
    "joint": ("joint", "joint", {"projection_dim": 32}),
    "momentum_queue": ("mulsupcon", "momentum_queue", {"queue_size": 64}),
    "momentum_queue, fine-tuned": (
        "mulsupcon",
        "momentum_queue",
        {"queue_size": 64, "finetuning": {"epochs": 2, "steps_per_epoch": 5}},
    ),
    "kmcl": ("kmcl", "kmcl", {"ema_decay": 0.9}),
    "kmcl with asl": ("asl", "kmcl", {"ema_decay": 0.9}),
    "random_encoder": (None, "random_encoder", {}),
}


@pytest.mark.parametrize("modality", ["image", "text", "vector"])
@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_trains_on_every_modality(
    real: dict[str, PreparedDataset], name: str, modality: str, tmp_path: Path
) -> None:
    loss, protocol, training = PROTOCOLS[name]
    part = {"source": "real", "settings": {}, "subset": {"fraction": 0.5}}
    settings = cell(real[modality], loss, protocol, training=training, dataset=part)
    outcome = twice(settings, real[modality], tmp_path)
    assert outcome.examples == {"train": 240, "val": 120, "test": 160}
    if loss is not None:
        assert [line.epoch for line in outcome.fitted.curve][:2] == [1, 2]  # type: ignore[union-attr]


@pytest.mark.parametrize("modality", ["image", "text", "vector"])
def test_a_frozen_encoder_trains_on_every_modality(
    real: dict[str, PreparedDataset], modality: str, tmp_path: Path
) -> None:
    training = {"augmentation": "basic", "feature_masking": 0}
    settings = cell(real[modality], "mulsupcon", encoder={"freeze": True}, training=training)
    twice(settings, real[modality], tmp_path)
