"""float16 with loss scaling, as on GPUs without bfloat16: here on the CPU, with a scaler that the test sets."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import cell

from mlcl.data import PreparedDataset
from mlcl.training import distributed, loop
from mlcl.training.events import Diverged, Interrupted
from mlcl.training.launch import train
from mlcl.training.outcome import Outcome
from mlcl.training.settings import CellSettings, ComputeSettings


@pytest.fixture
def scaled(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Makes training use float16; gives the scalers of all runs. The first scale makes every gradient infinite."""
    made: list[Any] = []
    original = distributed.accelerator

    def with_scaler(compute: ComputeSettings) -> Any:
        accelerator = original(compute)
        accelerator.state._mixed_precision = "fp16"
        accelerator.native_amp = True
        accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40, growth_interval=5)
        made.append(accelerator.scaler)
        return accelerator

    monkeypatch.setattr(distributed, "accelerator", with_scaler)
    return made


def settings(dataset: PreparedDataset, **training: Any) -> CellSettings:
    return cell(
        dataset, "bce", training={"epochs": 3, "steps_per_epoch": 20, "learning_rate": 0.01} | training
    )


def outcome_of(chosen: CellSettings, dataset: PreparedDataset, folder: Path | None = None) -> Outcome:
    return train(chosen, dataset, lambda news: None, folder)


def test_steps_with_infinite_gradients_are_skipped_and_the_scale_falls(
    vectors: PreparedDataset, scaled: list[Any]
) -> None:
    outcome = outcome_of(settings(vectors), vectors)
    assert outcome.fitted is not None
    losses = [line.loss for line in outcome.fitted.curve]
    assert losses[-1] < losses[0]
    assert 1 <= scaled[0].get_scale() < 2.0**40
    assert all(value.isfinite().all() for value in outcome.fitted.method.parameters())


def test_the_encoder_computes_in_float16_and_the_loss_in_float32(
    vectors: PreparedDataset, scaled: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    step = loop.TrainingRun.step

    def watched(self: Any, host_batch: Any) -> None:
        handle = self.method.encoder.layers[2].register_forward_hook(
            lambda *given: seen.append(given[-1].dtype)
        )
        step(self, host_batch)
        handle.remove()
        seen.append(self.progress.losses[-1].dtype)

    monkeypatch.setattr(loop.TrainingRun, "step", watched)
    outcome_of(settings(vectors, epochs=1, steps_per_epoch=1), vectors)
    assert seen == [torch.float16, torch.float32]


def test_resumed_with_the_state_of_the_scaler(
    vectors: PreparedDataset, scaled: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = settings(vectors)
    expected = outcome_of(chosen, vectors)
    steps: list[None] = []
    original = loop.TrainingRun.step

    def step(self: Any, gathered: Any) -> None:
        original(self, gathered)
        steps.append(None)
        if len(steps) == 30:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(loop.TrainingRun, "step", step)
        with pytest.raises(Interrupted):
            outcome_of(chosen, vectors, tmp_path)
    resumed = outcome_of(chosen, vectors, tmp_path)
    assert np.array_equal(resumed.scores["head"]["test"], expected.scores["head"]["test"])
    assert scaled[-1].state_dict() == scaled[0].state_dict()


def test_a_loss_that_is_never_finite_stops_the_cell(vectors: PreparedDataset, scaled: list[Any]) -> None:
    """Gradients may be infinite for a while, a loss may not."""
    with pytest.raises(Diverged):
        outcome_of(settings(vectors, optimizer="sgd", learning_rate=1e30, gradient_clip=None), vectors)


def test_the_device_decides_between_bfloat16_and_float16(monkeypatch: pytest.MonkeyPatch) -> None:
    mixed = ComputeSettings(precision="mixed")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    assert distributed.precision(mixed, torch.device("cuda")) == "fp16"
    assert distributed.precision(mixed, torch.device("cpu")) == "bf16"
    assert distributed.precision(ComputeSettings(), torch.device("cuda")) == "no"
