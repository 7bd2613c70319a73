"""Training on a GPU: every protocol and family of encoders, all precisions, resumed, frozen, the same as on a CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from interrupt import at_step, terminate
from tiny import cell, only_scores

from mlcl.data import PreparedDataset
from mlcl.training.events import Interrupted
from mlcl.training.launch import train
from mlcl.training.outcome import Outcome
from mlcl.training.settings import CellSettings

pytestmark = pytest.mark.gpu

BERT = {
    "name": "huggingface",
    "config": {
        "model_type": "bert", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 16, "max_position_embeddings": 16,
    },
    "max_length": 8, "tokenizer": {"kind": "word", "vocab_size": 16},
}  # fmt: skip
LLAMA = {
    "name": "decoder",
    "config": {
        "model_type": "llama", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "num_key_value_heads": 1, "intermediate_size": 16,
    },
    "max_length": 8, "tokenizer": {"kind": "word", "vocab_size": 16},
}  # fmt: skip
FINETUNING = {"epochs": 2, "batch_size": 16, "steps_per_epoch": 4, "selection": "best_val_loss"}
PROTOCOLS: dict[str, tuple[str | None, str, dict[str, Any]]] = {
    "contrastive_linear": ("jaccard", "contrastive_linear", {"projection_dim": 8}),
    "validated": ("mulsupcon", "contrastive_linear", {"projection_dim": 8, "selection": "best_val_micro_f1"}),
    "in pieces": ("reg", "contrastive_linear", {"projection_dim": 8, "micro_batch_size": 5}),
    "end_to_end": ("asl", "end_to_end", {"head_dropout": 0.5, "ema_decay": 0.9}),
    "joint": ("joint", "joint", {"projection_dim": 8}),
    "kmcl": ("kmcl", "kmcl", {"augmentation": "basic"}),
    "momentum_queue": ("mulsupcon", "momentum_queue", {"projection_dim": 8, "queue_size": 40}),
    "finetuning": (
        "mulsupcon",
        "momentum_queue",
        {"projection_dim": 8, "queue_size": 40, "finetuning": FINETUNING},
    ),
    "random_encoder": (None, "random_encoder", {}),
    "label_prior": (None, "label_prior", {}),
    "random": (None, "random", {}),
}
ENCODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "cnn": ("images", {}),
    "torchvision": ("images", {"name": "resnet18"}),
    "timm": ("images", {"name": "timm", "model": "mobilenetv3_small_050"}),
    "transformer": ("texts", {}),
    "huggingface": ("texts", BERT),
    "in chunks": ("texts", BERT | {"max_length": 4, "max_chunks": 3}),
    "checkpointed": ("texts", BERT | {"gradient_checkpointing": True}),
    "decoder with adapters": ("texts", LLAMA | {"lora": {"rank": 2}}),
    "mlp": ("vectors", {}),
    "frozen cnn": ("images", {"freeze": True}),
    "frozen huggingface": ("texts", BERT | {"freeze": True}),
    "frozen mlp": ("vectors", {"freeze": True}),
}


def chosen(
    dataset: PreparedDataset,
    loss: str | None,
    protocol: str | None = None,
    /,
    device: str = "cuda",
    **changes: Any,
) -> CellSettings:
    compute = {"threads": 1, "device": device} | changes.pop("compute", {})
    return cell(dataset, loss, protocol, compute=compute, **changes)


def run(settings: CellSettings, dataset: PreparedDataset, folder: Path | None = None) -> Outcome:
    return train(settings, dataset, lambda news: None, folder)


def check(outcome: Outcome, dataset: PreparedDataset) -> None:
    for split in ("val", "test"):
        scores = only_scores(outcome)[split]
        assert scores.shape == (len(dataset[split]), dataset.num_labels)
        assert np.isfinite(scores).all()
    if outcome.fitted is not None:
        assert all(np.isfinite(line.loss) for line in outcome.fitted.curve)


@pytest.mark.parametrize("modality", ["images", "texts", "vectors"])
@pytest.mark.parametrize("case", PROTOCOLS)
def test_every_protocol_trains(case: str, modality: str, device: str, request: pytest.FixtureRequest) -> None:
    dataset = request.getfixturevalue(modality)
    loss, protocol, training = PROTOCOLS[case]
    changes: dict[str, Any] = {}
    if protocol == "momentum_queue":
        training = {"augmentation": "basic", "feature_masking": 0.0} | training
    check(run(chosen(dataset, loss, protocol, device=device, training=training, **changes), dataset), dataset)


@pytest.mark.parametrize("precision", ["fp32", "mixed"])
@pytest.mark.parametrize("case", ENCODERS)
def test_every_family_of_encoders_trains(
    case: str, precision: str, device: str, request: pytest.FixtureRequest
) -> None:
    if device == "cpu" and precision == "mixed" and case in ("torchvision", "timm"):
        pytest.skip(
            "on CPUs without bfloat16 units torch's convolutions of such small images give inf at random"
        )
    modality, encoder = ENCODERS[case]
    dataset = request.getfixturevalue(modality)
    settings = chosen(
        dataset, "mulsupcon", device=device, encoder=dict(encoder), training={"projection_dim": 8},
        compute={"precision": precision},
    )  # fmt: skip
    check(run(settings, dataset), dataset)


@pytest.mark.parametrize("augmentation", ["randaugment", "crop_flip", "cutout_randaugment"])
def test_augmented_images_train(augmentation: str, images: PreparedDataset, device: str) -> None:
    training = {"augmentation": augmentation}
    check(run(chosen(images, "bce", device=device, training=training), images), images)


def test_nearest_neighbours_evaluate(vectors: PreparedDataset, device: str) -> None:
    knn = {"readouts": ["knn"], "linear_evaluation": None, "knn_evaluation": {"neighbours": [3, 5]}}
    check(run(chosen(vectors, "jaccard", device=device, **knn), vectors), vectors)


@pytest.mark.parametrize("case", ["contrastive_linear", "end_to_end", "momentum_queue", "in pieces"])
def test_stopped_inside_an_epoch_it_goes_on(
    case: str, texts: PreparedDataset, device: str, tmp_path: Path
) -> None:
    """With dropout: the generator of the device is part of what is saved."""
    loss, protocol, training = PROTOCOLS[case]
    settings = chosen(
        texts, loss, protocol, device=device, training=training | {"epochs": 3}, encoder={"dropout": 0.2}
    )
    expected = run(settings, texts)
    with at_step(6, terminate), pytest.raises(Interrupted):
        run(settings, texts, tmp_path)
    resumed = run(settings, texts, tmp_path)
    assert expected.fitted is not None
    assert resumed.fitted is not None
    ours, theirs = ([line.loss for line in fitted.curve] for fitted in (resumed.fitted, expected.fitted))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)
    np.testing.assert_allclose(only_scores(resumed)["test"], only_scores(expected)["test"], atol=1e-3)


def test_float16_is_scaled(texts: PreparedDataset, cuda: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU without bfloat16."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: False)
    settings = chosen(
        texts, "bce", device=cuda, encoder=dict(BERT), training={"epochs": 5}, compute={"precision": "mixed"}
    )
    outcome = run(settings, texts)
    check(outcome, texts)
    assert outcome.fitted is not None
    assert outcome.fitted.curve[-1].loss < outcome.fitted.curve[0].loss


NO_DROPOUT: dict[str, dict[str, Any]] = {
    "images": {},
    "texts": {"dropout": 0.0, "token_dropout": 0.0},
    "vectors": {"input_dropout": 0.0},
}
"""Without draws on the device, which differ from the CPU's."""


@pytest.mark.parametrize("loss", ["bce", "jaccard", "mulsupcon", "reg", "prototype"])
@pytest.mark.parametrize("modality", NO_DROPOUT)
def test_a_short_training_ends_as_on_the_cpu(
    modality: str, loss: str, device: str, request: pytest.FixtureRequest
) -> None:
    """Losses of two epochs within 1 %, probabilities within 0.02: what the order of sums in float32 leaves open."""
    dataset = request.getfixturevalue(modality)
    training = {"head_dropout": 0.0} if loss == "bce" else {}
    here, there = (
        run(chosen(dataset, loss, device=where, training=training, encoder=NO_DROPOUT[modality]), dataset)
        for where in (device, "cpu")
    )
    assert here.fitted is not None
    assert there.fitted is not None
    ours, theirs = ([line.loss for line in fitted.curve] for fitted in (here.fitted, there.fitted))
    np.testing.assert_allclose(ours, theirs, rtol=0.01)
    for split in ("val", "test"):
        np.testing.assert_allclose(only_scores(here)[split], only_scores(there)[split], atol=0.02)


def test_float32_means_float32(cuda: str, vectors: PreparedDataset) -> None:
    """After a cell was trained, matrix products do not drop bits."""
    run(chosen(vectors, "bce", device=cuda), vectors)
    a, b = (torch.randn(512, 512, device=cuda) for _ in range(2))
    exact = a.double() @ b.double()
    assert ((a @ b - exact).norm() / exact.norm()).item() < 1e-6
