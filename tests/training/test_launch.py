"""Several processes train a cell like one does, stop together, and report errors."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import cell, only_scores

from mlcl.data import PreparedDataset
from mlcl.training import launch
from mlcl.training.events import Diverged, EpochEnd, Interrupted, Resumed, TrainingEvent
from mlcl.training.launch import train
from mlcl.training.outcome import Outcome
from mlcl.training.settings import CellSettings, LossPart

# Without batch normalisation (each process has its own statistics) and without draws of its own.
BERT = {
    "name": "huggingface",
    "config": {
        "model_type": "bert", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 16, "max_position_embeddings": 16,
    },
    "max_length": 8, "dropout": 0.0, "tokenizer": {"kind": "word", "vocab_size": 16},
}  # fmt: skip
FEW = {"epochs": 3, "schedule": "constant", "warmup": 0.0, "feature_masking": 0.0}
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "contrastive_linear": (
        "jaccard",
        "contrastive_linear",
        {"projection_dim": 8, "selection": "best_val_loss"},
    ),
    "end_to_end": ("asl", "end_to_end", {"head_dropout": 0.0, "selection": "best_val_micro_f1"}),
    "momentum_queue": ("mulsupcon", "momentum_queue", {"projection_dim": 8, "queue_size": 32}),
    "kmcl": ("kmcl", "kmcl", {"ema_decay": 0.9, "augmentation": "basic", "optimizer": "sgd"}),
    "in pieces": ("reg", "contrastive_linear", {"projection_dim": 8, "micro_batch_size": 3}),
    "queue in pieces": (
        "mulsupcon",
        "momentum_queue",
        {"projection_dim": 8, "queue_size": 32, "micro_batch_size": 4},
    ),
}
TIMEOUT = 240.0


def settings(case: str, dataset: PreparedDataset, count: int, **changes: Any) -> CellSettings:
    loss, protocol, training = CASES[case]
    compute = {"threads": 1, "device": "cpu", "processes": count}
    return cell(
        dataset, loss, protocol, encoder=dict(BERT), training=FEW | training, compute=compute, **changes
    )


def run(
    chosen: CellSettings,
    dataset: PreparedDataset,
    told: Callable[[TrainingEvent], None] = lambda _: None,
    folder: Path | None = None,
) -> Outcome:
    return train(chosen, dataset, told, folder)


def curve(outcome: Outcome) -> np.ndarray:
    assert outcome.fitted is not None
    values = [[x.loss, x.val_loss or 0, x.learning_rate, x.epoch, x.step] for x in outcome.fitted.curve]
    return np.array(values)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_like_one(texts: PreparedDataset, case: str) -> None:
    one, two = (run(settings(case, texts, count), texts) for count in (1, 2))
    assert np.allclose(curve(one), curve(two), rtol=2e-3)
    assert curve(one)[0, 0] != curve(one)[-1, 0]
    assert two.fitted is not None
    assert one.examples == two.examples == {"train": 60, "val": 30, "test": 30}
    for split in ("val", "test"):
        assert np.allclose(one.features[split], two.features[split], atol=0.02)
        assert np.allclose(only_scores(one)[split], only_scores(two)[split], atol=0.02)
    # The method can be used here: it holds no process group of the workers.
    values = torch.randn(4, 16)
    method = two.fitted.method
    if method.head is not None:
        assert method.head(values).shape == (4, 4)
    assert all(getattr(part, "process_group", None) is None for part in method.modules())
    assert two.throughput["peak_memory_mb"] > 0


class Stopped(BaseException):
    pass


@pytest.mark.slow
def test_sigterm_is_forwarded_and_training_resumes(texts: PreparedDataset, tmp_path: Path) -> None:
    """With dropout and other draws in each process; the same bits as without a stop."""
    chosen = settings("momentum_queue", texts, 2)
    encoder = {**chosen.encoder.settings, "dropout": 0.2}  # type: ignore[union-attr]
    training = {**(chosen.training or {}), "steps_per_epoch": 60, "selection": "best_val_loss"}
    chosen = chosen.model_copy(
        update={"training": training, "encoder": chosen.encoder.model_copy(update={"settings": encoder})}  # type: ignore[union-attr]
    )
    expected = run(chosen, texts)

    def terminate(news: TrainingEvent) -> None:
        if isinstance(news, EpochEnd) and news.epoch == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted, match=r"stopped in epoch [23]; the state is saved"):
        run(chosen, texts, terminate, tmp_path)
    news: list[TrainingEvent] = []
    outcome = run(chosen, texts, news.append, tmp_path)
    assert isinstance(news[0], Resumed)
    assert news[0].batches > 0
    assert np.array_equal(curve(outcome), curve(expected))
    for split in ("val", "test"):
        assert np.array_equal(outcome.features[split], expected.features[split])
        assert np.array_equal(only_scores(outcome)[split], only_scores(expected)[split])


def loss_that(folder: Path, what: str) -> LossPart:
    """A loss of whose calls the fifth goes wrong in the process of this rank alone."""
    (folder / "odd.py").write_text(
        '"""Goes wrong in one process."""\n'
        "import os, signal, time\n"
        "from mlcl.losses import PairWeighting\n\n"
        "class Odd(PairWeighting):\n"
        '    paper = "none"\n'
        '    equation = "none"\n'
        "    temperature: float = 0.1\n"
        "    calls = 0\n"
        "    def weights(self, pairs):\n"
        "        return pairs.shared\n"
        "    def forward(self, embeddings, labels, references=None):\n"
        "        self.calls += 1\n"
        "        if self.calls == 5 and os.environ.get('RANK') == '1':\n"
        f"            {what}\n"
        "        return super().forward(embeddings, labels, references)\n"
    )
    return LossPart(name="odd", file=folder / "odd.py", hyperparameters={})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "kind", "message"),
    [
        ("raise ValueError('row 7 has no label')", ValueError, "^row 7 has no label"),
        ("os.kill(os.getpid(), signal.SIGKILL)", RuntimeError, "^process 2 of 2 was killed by SIGKILL$"),
        ("os._exit(3)", RuntimeError, "^process 2 of 2 ended with exit code 3$"),
        (
            "labels = labels.new_ones(labels.shape); embeddings = embeddings * float('nan')",
            Diverged,
            "epoch 2, step 5: ",
        ),
        ("pass", None, ""),
    ],
    ids=["raises", "is killed", "exits", "diverges", "does well"],
)
def test_an_error_of_one_process_is_raised_and_ends_all(
    texts: PreparedDataset, tmp_path: Path, what: str, kind: type[Exception] | None, message: str
) -> None:
    chosen = settings("contrastive_linear", texts, 2)
    training = {**(chosen.training or {}), "selection": "last"}
    chosen = chosen.model_copy(update={"loss": loss_that(tmp_path, what), "training": training})
    begun = time.monotonic()
    if kind is None:
        assert only_scores(run(chosen, texts))["test"].shape == (30, 4)
    else:
        with pytest.raises(kind, match=message):
            run(chosen, texts)
    assert time.monotonic() - begun < TIMEOUT
    children = Path(f"/proc/{os.getpid()}/task/{threading.get_native_id()}/children").read_text().split()
    commands = [Path(f"/proc/{child}/cmdline").read_text() for child in children]
    assert not any("spawn_main" in command for command in commands)


def test_batches_that_cannot_be_shared_evenly_are_rejected(texts: PreparedDataset) -> None:
    with pytest.raises(ValueError, match="batch_size 16 cannot be shared evenly by 3 processes"):
        run(settings("end_to_end", texts, 3), texts)


def test_baselines_without_training_run_in_one_process(texts: PreparedDataset) -> None:
    prior = cell(texts, None, "label_prior", compute={"threads": 1, "device": "cpu", "processes": 2})
    assert only_scores(run(prior, texts))["test"].shape == (30, 4)


def test_an_error_that_cannot_be_pickled_keeps_its_message() -> None:
    class LocalError(Exception):
        def __init__(self, number: int, more: str) -> None:
            super().__init__(f"{number} {more}")

    sent = launch.picklable(LocalError(3, "things"))
    assert type(sent) is RuntimeError
    assert str(sent) == "LocalError: 3 things"
    assert launch.picklable(Diverged("epoch 1")).args == ("epoch 1",)
