"""Checkpoints: an interrupted and resumed training ends with the same bits as an uninterrupted one."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from interrupt import Killed, at_step, kill, terminate
from tiny import cell, only_scores

from mlcl.data import PreparedDataset
from mlcl.training import fit, loop
from mlcl.training.checkpoint import Checkpoint, StopSignal
from mlcl.training.events import Diverged, EpochEnd, Interrupted, Resumed, TrainingEvent
from mlcl.training.launch import train
from mlcl.training.outcome import Outcome
from mlcl.training.settings import CellSettings

FINETUNING = {
    "epochs": 2, "batch_size": 16, "steps_per_epoch": 4, "selection": "best_val_loss", "learning_rate": 0.01,
    "head_dropout": 0.3,
}  # fmt: skip
CASES: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "contrastive_linear": (
        "texts",
        "jaccard",
        "contrastive_linear",
        {"selection": "best_val_micro_f1", "length_bucketing": True, "projection_dim": 8},
    ),
    "end_to_end": (
        "images",
        "asl",
        "end_to_end",
        {
            "augmentation": "crop_flip",
            "head_dropout": 0.5,
            "selection": "best_val_loss",
            "schedule": "linear",
        },
    ),
    "joint": (
        "texts",
        "joint",
        "joint",
        {"head_dropout": 0.5, "steps_per_epoch": 5, "selection": "best_val_loss", "projection_dim": 8},
    ),
    "momentum_queue": (
        "vectors",
        "mulsupcon",
        "momentum_queue",
        {"queue_size": 40, "projection_dim": 8, "selection": "best_val_micro_f1", "steps_per_epoch": 4},
    ),
    "finetuning": (
        "vectors",
        "mulsupcon",
        "momentum_queue",
        {"queue_size": 40, "projection_dim": 8, "finetuning": FINETUNING},
    ),
    "kmcl": (
        "images",
        "kmcl",
        "kmcl",
        {"ema_decay": 0.9, "augmentation": "cutout_randaugment", "selection": "best_val_loss"},
    ),
    "in pieces": ("texts", "reg", "contrastive_linear", {"micro_batch_size": 5, "projection_dim": 8}),
    "bfloat16": ("vectors", "bce", "end_to_end", {"optimizer": "sgd", "head_dropout": 0.5}),
}
EPOCHS = {"epochs": 3}


def settings(case: str, dataset: PreparedDataset) -> CellSettings:
    _, loss, protocol, training = CASES[case]
    changes: dict[str, Any] = {}
    if case == "bfloat16":
        changes["compute"] = {"threads": 1, "device": "cpu", "precision": "mixed"}
    encoder = {"dropout": 0.2} if dataset.modality == "text" else {}
    return cell(dataset, loss, protocol, training=EPOCHS | training, encoder=encoder, **changes)


def told(news: TrainingEvent) -> None:
    """To nobody."""


def same(first: Outcome, second: Outcome) -> None:
    for split in ("val", "test"):
        assert np.array_equal(only_scores(first)[split], only_scores(second)[split])
        assert np.array_equal(first.features[split], second.features[split])
    assert first.fitted is not None
    assert second.fitted is not None
    assert curve(first.fitted.curve) == curve(second.fitted.curve)
    assert first.fitted.ema == second.fitted.ema
    for own, other in zip(
        first.fitted.method.state_dict().values(), second.fitted.method.state_dict().values(), strict=True
    ):
        assert torch.equal(own, other) if isinstance(own, torch.Tensor) else own == other


def curve(lines: list[EpochEnd]) -> list[tuple[Any, ...]]:
    return [(x.epoch, x.step, x.loss, x.learning_rate, x.val_loss, x.val_micro_f1) for x in lines]


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[CellSettings, PreparedDataset, Outcome, int]:
    """A cell, its data, what comes out where nothing interrupts, and the steps that it takes."""
    dataset = request.getfixturevalue(CASES[request.param][0])
    chosen = settings(request.param, dataset)
    with at_step(0, kill) as steps:
        outcome = train(chosen, dataset, told)
    return chosen, dataset, outcome, len(steps)


def test_interrupted_anywhere_training_ends_with_the_same_bits(
    case: tuple[CellSettings, PreparedDataset, Outcome, int], tmp_path: Path
) -> None:
    chosen, dataset, expected, steps = case
    # By a signal in the middle of an epoch, right at the end of one (3 or more steps each), and in the last step.
    for place in (2, 3, steps):
        folder = tmp_path / f"terminated-{place}"
        with (
            at_step(place, terminate),
            pytest.raises(Interrupted, match=r"stopped in epoch \d+; the state is saved"),
        ):
            train(chosen, dataset, told, folder)
        with at_step(0, kill) as left:
            same(train(chosen, dataset, told, folder), expected)
        assert len(left) == steps - place
    # By a kill: from the end of the last epoch, if there is one.
    for place in (1, 6):
        folder = tmp_path / f"killed-{place}"
        with at_step(place, kill), pytest.raises(Killed):
            train(chosen, dataset, told, folder)
        with at_step(0, kill) as left:
            same(train(chosen, dataset, told, folder), expected)
        assert len(left) == steps if place == 1 else len(left) in range(steps - 5, steps)
    # Again and again.
    folder = tmp_path / "often"
    for _ in range(steps // 4):
        with at_step(4, terminate), pytest.raises(Interrupted):
            train(chosen, dataset, told, folder)
    same(train(chosen, dataset, told, folder), expected)
    # After its end: nothing is trained again.
    with at_step(0, kill) as left:
        same(train(chosen, dataset, told, folder), expected)
    assert left == []


@pytest.fixture
def plain(images: PreparedDataset) -> CellSettings:
    return cell(images, "bce", training=EPOCHS | {"head_dropout": 0.3})


def test_the_next_epoch_has_another_order(
    images: PreparedDataset, plain: CellSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows themselves: an order that begins anew would not be seen in every result."""
    seen: list[list[int]] = []
    original = loop.TrainingRun.gather

    def gather(self: Any, rows: np.ndarray) -> Any:
        seen.append(rows.tolist())
        return original(self, rows)

    monkeypatch.setattr(loop.TrainingRun, "gather", gather)
    train(plain, images, told)
    expected, seen[:] = list(seen), []

    def stop_after_the_first(news: TrainingEvent) -> None:
        if isinstance(news, EpochEnd):
            raise Killed

    for _ in range(3):
        with pytest.raises(Killed):
            train(plain, images, stop_after_the_first, tmp_path)
    assert seen == expected
    assert len({str(sorted(map(tuple, seen[i : i + 3]))) for i in (0, 3, 6)}) == 3


def test_a_resumed_training_reports_where_it_resumed(
    images: PreparedDataset, plain: CellSettings, tmp_path: Path
) -> None:
    news: list[TrainingEvent] = []
    with at_step(5, terminate), pytest.raises(Interrupted):
        train(plain, images, news.append, tmp_path)
    assert not any(isinstance(item, Resumed) for item in news)
    train(plain, images, news.append, tmp_path)
    assert [item for item in news if isinstance(item, Resumed)] == [Resumed(2, 2, 3)]
    assert [item.epoch for item in news if isinstance(item, EpochEnd)] == [1, 2, 3]


@pytest.mark.parametrize("damage", ["empty", "half", "noise", "other", "flipped", "text"])
def test_a_damaged_checkpoint_starts_over(
    images: PreparedDataset, plain: CellSettings, tmp_path: Path, damage: str
) -> None:
    with at_step(5, terminate), pytest.raises(Interrupted):
        train(plain, images, told, tmp_path)
    (file,) = tmp_path.iterdir()
    content = file.read_bytes()
    match damage:
        case "empty":
            file.write_bytes(b"")
        case "half":
            file.write_bytes(content[: len(content) // 2])
        case "noise":
            file.write_bytes(np.random.default_rng(0).bytes(5000))
        case "other":
            torch.save({"method": torch.nn.Linear}, file)  # nothing that is loaded without trust
        case "flipped":
            middle = len(content) // 2
            file.write_bytes(
                content[:middle]
                + bytes(b ^ 255 for b in content[middle : middle + 4000])
                + content[middle + 4000 :]
            )
        case "text":
            file.write_text("not a checkpoint\n")
    with (
        at_step(0, kill) as steps,
        pytest.warns(UserWarning, match="cannot be read .*; training starts over"),
    ):
        outcome = train(plain, images, told, tmp_path)
    assert len(steps) == 9
    assert file.with_name(f"{file.name}.unreadable").exists()
    same(outcome, train(plain, images, told))


def test_sigterm_during_the_last_validation_interrupts(
    vectors: PreparedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = cell(vectors, "bce", training={"epochs": 2, "selection": "best_val_loss"})
    whole = train(chosen, vectors, told)
    measure, calls = fit.validation, []

    def validation(context: Any, settings: Any) -> Any:
        measured = measure(context, settings)

        def and_terminate(method: Any) -> dict[str, float]:
            calls.append(method)
            if len(calls) == 2:
                terminate()
            return measured(method)

        return and_terminate

    monkeypatch.setattr(fit, "validation", validation)
    with pytest.raises(Interrupted, match="after the last epoch"):
        train(chosen, vectors, told, tmp_path)
    with at_step(0, kill) as steps:
        same(train(chosen, vectors, told, tmp_path), whole)
    assert not steps


def test_times_include_earlier_processes(
    images: PreparedDataset, plain: CellSettings, tmp_path: Path
) -> None:
    with at_step(5, terminate), pytest.raises(Interrupted):
        train(plain, images, told, tmp_path)
    saved = Checkpoint(tmp_path / "training.pt").load()["progress"]
    resumed, whole = train(plain, images, told, tmp_path).fitted, train(plain, images, told).fitted
    assert resumed is not None
    assert whole is not None
    assert (resumed.earlier_seconds, resumed.earlier_cpu_seconds) == (saved["seconds"], saved["cpu_seconds"])
    assert resumed.earlier_seconds > 0
    assert resumed.earlier_cpu_seconds > 0
    assert (whole.earlier_seconds, whole.earlier_cpu_seconds) == (0, 0)


def test_a_device_of_another_precision_does_not_resume(
    images: PreparedDataset, plain: CellSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a GPU without bfloat16 where the first one had it."""
    with at_step(5, terminate), pytest.raises(Interrupted):
        train(plain, images, told, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(loop.TrainingRun, "precision", "fp16")
        with pytest.raises(Interrupted, match=r"began in precision no.*trains in fp16.*training\.pt"):
            train(plain, images, told, tmp_path)
    assert (tmp_path / "training.pt").exists()


def test_a_checkpoint_of_another_format_is_left_and_named(tmp_path: Path) -> None:
    file = tmp_path / "training.pt"
    Checkpoint(file).save({"format": 3, "progress": {}})
    with pytest.raises(Interrupted, match=r"training\.pt: checkpoint format 3, this version reads 2"):
        Checkpoint(file).load()
    assert file.exists()


def test_checkpoints_are_replaced_atomically(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = Checkpoint(tmp_path / "state.pt")
    checkpoint.save({"step": 1})

    def fails(state: Any, file: Any) -> None:
        file.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", fails)
    with pytest.raises(OSError, match="no space"):
        checkpoint.save({"step": 2})
    assert checkpoint.load() == {"step": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["state.pt"]


def test_without_a_file_nothing_is_saved(tmp_path: Path) -> None:
    Checkpoint().save({"step": 1})
    assert Checkpoint().load() == {}
    assert Checkpoint(tmp_path / "state.pt").load() == {}


def test_a_diverged_epoch_is_not_checkpointed(images: PreparedDataset, tmp_path: Path) -> None:
    """SIGTERM comes in the very step that diverges: it is looked at before the state is saved."""
    wild = cell(
        images,
        "bce",
        training=EPOCHS
        | {
            "optimizer": "sgd",
            "learning_rate": 1e30,
            "schedule": "constant",
            "gradient_clip": None,
            "warmup": 0.0,
        },
    )
    with at_step(3, terminate), pytest.raises(Diverged):
        train(wild, images, told, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_previous_signal_handler_is_restored() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopSignal() as stop:
        terminate()
        assert stop.requested
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("damage", ["flipped", "cut", "emptied", "swapped"])
def test_a_damaged_checkpoint_is_named_put_aside_and_not_resumed(tmp_path: Path, damage: str) -> None:
    (tmp_path / "a").mkdir()
    file = tmp_path / "a" / "state.pt"
    Checkpoint(file).save({"weights": torch.arange(1000.0)})
    content = bytearray(file.read_bytes())
    if damage == "swapped":
        Checkpoint(tmp_path / "b" / "state.pt").save({"weights": torch.arange(1000.0) + 1})
        content = bytearray((tmp_path / "b" / "state.pt").read_bytes())
    elif damage == "flipped":
        content[len(content) // 2] ^= 1
    file.write_bytes({"cut": content[:-20], "emptied": b""}.get(damage, content))
    with pytest.warns(UserWarning, match=r"a/state\.pt: cannot be read.*training starts over"):
        assert Checkpoint(file).load() == {}
    assert [path.name for path in file.parent.iterdir()] == ["state.pt.unreadable"]
