"""The training loop: what it reports, what stops it, and that no step synchronises with the device."""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import cell
from torch.utils._python_dispatch import TorchDispatchMode

from mlcl.data import PreparedDataset
from mlcl.training import fit, loop, watch
from mlcl.training.checkpoint import Checkpoint
from mlcl.training.events import Diverged, EpochEnd, StepProgress, TrainingEvent
from mlcl.training.launch import train
from mlcl.training.optim import MovingAverage
from mlcl.training.outcome import Outcome
from mlcl.training.settings import CellSettings

LOSSES = Path(__file__).parent / "losses"
STEADY = {"schedule": "constant", "warmup": 0.0, "optimizer": "sgd", "learning_rate": 0.01}


def run(settings: CellSettings, dataset: PreparedDataset) -> tuple[Outcome, list[TrainingEvent]]:
    news: list[TrainingEvent] = []
    return train(settings, dataset, news.append), news


def losses_of(outcome: Outcome) -> list[float]:
    assert outcome.fitted is not None
    return [line.loss for line in outcome.fitted.curve]


def compute(**more: Any) -> dict[str, Any]:
    return {"threads": 1, "device": "cpu", **more}


# Checks for non-finite values


@pytest.mark.parametrize("steps", [1, 4, 5, 10, 11])
def test_every_step_is_checked_once(
    vectors: PreparedDataset, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    """Also where the last look falls on the last batch."""
    monkeypatch.setattr(watch, "CHECK_EVERY", 5)
    monkeypatch.setattr(watch, "CHECK_SECONDS", 1e9)
    checked: list[int] = []
    original = watch.NonFiniteWatch.check

    def check(self: watch.NonFiniteWatch, *given: Any) -> None:
        before = self.last_check
        original(self, *given)
        checked.extend(range(before, self.last_check))

    monkeypatch.setattr(watch.NonFiniteWatch, "check", check)
    _, news = run(cell(vectors, "bce", training={"steps_per_epoch": steps}), vectors)
    assert checked == 2 * list(range(steps))
    assert sum(isinstance(item, StepProgress) for item in news) == 2 * (steps // 5)


def test_progress_is_reported_after_each_check(
    vectors: PreparedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "CHECK_SECONDS", 0.0)
    outcome, news = run(cell(vectors, "bce", training={"steps_per_epoch": 4, "epochs": 3}), vectors)
    assert [type(item).__name__ for item in news] == 3 * [*(4 * ["StepProgress"]), "EpochEnd"]
    underway = [item for item in news if isinstance(item, StepProgress)]
    assert [(item.epoch, item.batches) for item in underway] == [
        (e, b) for e in (1, 2, 3) for b in (1, 2, 3, 4)
    ]
    assert all((item.epochs, item.steps_per_epoch) == (3, 4) for item in underway)
    mean = np.mean([item.loss for item in underway[:4]])
    assert losses_of(outcome)[0] == pytest.approx(mean, rel=1e-5)
    assert underway[3].epoch_seconds_left == 0 < underway[2].epoch_seconds_left
    assert underway[2].seconds_left > underway[2].epoch_seconds_left
    assert underway[-1].seconds_left == 0
    assert all(item.examples_per_second > 0 for item in underway)
    assert [item for item in news if isinstance(item, EpochEnd)] == outcome.fitted.curve  # type: ignore[union-attr]


# Diverged


def wild(tmp_path: Path, body: str) -> dict[str, Any]:
    """A loss whose call of number `self.calls` does what `body` says."""
    (tmp_path / "wild.py").write_text(
        '"""Goes wrong on purpose."""\n'
        "import torch\n"
        "from mlcl.losses import PairWeighting\n\n"
        "class _Bad(torch.autograd.Function):\n"
        "    @staticmethod\n"
        "    def forward(ctx, values):\n"
        "        return values.clone()\n"
        "    @staticmethod\n"
        "    def backward(ctx, gradient):\n"
        "        return gradient * float('nan')\n\n"
        "class Wild(PairWeighting):\n"
        '    paper = "none"\n'
        '    equation = "none"\n'
        "    calls = 0\n"
        "    def forward(self, embeddings, labels, references=None):\n"
        "        self.calls += 1\n"
        "        value = embeddings.square().mean()\n"
        f"        {body}\n"
    )
    return {"name": "wild", "file": tmp_path / "wild.py", "hyperparameters": {}}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "return value * (float('nan') if self.calls == 8 else 1)",
            "the loss was nan, its gradient norm nan",
        ),
        (
            "return value + (float('inf') if self.calls == 8 else 0)",
            r"the loss was inf, its gradient norm [\d.]+",
        ),
        (
            "return _Bad.apply(value) if self.calls == 8 else value",
            r"the loss was [\d.e-]+, its gradient norm nan",
        ),
    ],
    ids=["loss and gradient", "loss alone", "gradient alone"],
)
def test_non_finite_values_stop_the_cell_and_are_named(
    vectors: PreparedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, message: str
) -> None:
    """Step 8 of 15 is batch 3 of epoch 2; it is seen within as many steps as there are between looks."""
    monkeypatch.setattr(watch, "CHECK_EVERY", 2)
    drawn: list[np.ndarray] = []
    gather = loop.TrainingRun.gather
    monkeypatch.setattr(
        loop.TrainingRun, "gather", lambda self, rows: drawn.append(rows) or gather(self, rows)
    )
    settings = cell(vectors, "jaccard", training={"steps_per_epoch": 5, "epochs": 3, "projection_dim": 8})
    settings = settings.model_copy(update={"loss": type(settings.loss).model_validate(wild(tmp_path, body))})
    checkpoints = tmp_path / "checkpoints"
    with pytest.raises(Diverged, match=rf"epoch 2, step 8: {message}") as caught:
        train(settings, vectors, lambda _: None, checkpoints)
    assert len(drawn) <= 10
    named = ", ".join(f"train-{row}" for row in drawn[7][:5])
    assert str(caught.value).endswith(f"the batch has 16 rows: {named}, ...")
    state = Checkpoint(checkpoints / "training.pt").load()
    assert state["progress"]["epoch"] == 1  # as it was when all was well
    assert all(
        value.isfinite().all() for value in state["method"].values() if isinstance(value, torch.Tensor)
    )


def test_an_epoch_with_a_non_finite_validation_is_not_selected(
    vectors: PreparedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = iter([float("nan"), 3.0, 2.0, float("nan")])
    settings = cell(vectors, "bce", training={"epochs": 4, "selection": "best_val_loss"})
    weights_after: list[dict[str, torch.Tensor]] = []
    fit_loop = loop.Loop.fit

    def fitted(self: loop.Loop, method: Any, data: Any) -> Any:
        def validate(method: Any) -> dict[str, float]:
            weights_after.append(deepcopy(method.state_dict()))
            return {"val_loss": next(values), "val_micro_f1": 0.0}

        self.validate = validate
        return fit_loop(self, method, data)

    monkeypatch.setattr(loop.Loop, "fit", fitted)
    outcome, _ = run(settings, vectors)
    weights = outcome.fitted.method.state_dict()  # type: ignore[union-attr]
    assert len(weights_after) == 4
    assert all(torch.equal(weights_after[2][key], weights[key]) for key in weights)
    assert not all(torch.equal(weights_after[3][key], weights[key]) for key in weights)


def test_without_a_finite_validation_the_cell_diverges(
    vectors: PreparedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = {"val_loss": float("nan"), "val_micro_f1": 0.0}
    monkeypatch.setattr(fit, "validation", lambda context, settings: lambda method: nothing)
    with pytest.raises(Diverged, match="best_val_loss: no epoch had a finite value"):
        run(cell(vectors, "bce", training={"epochs": 2, "selection": "best_val_loss"}), vectors)


# No step synchronises with the device


PACKAGE = f"{Path(loop.__file__).parents[1]}/"
"""The folder of this package: the environment may lie in a folder of the same name."""


class Waits(TorchDispatchMode):
    """Counts what makes the host read a tensor's values. On a CPU they are as many as on a GPU.

    Optimizers keep their number of steps on the host, wherever the weights are.
    """

    NAMES = ("_local_scalar_dense", "nonzero", "equal", "is_nonzero", "masked_select", "unique", "item")

    METHODS = ("tolist", "numpy", "cpu", "__array__")  # which torch does not dispatch

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __enter__(self) -> Waits:
        self._patch = pytest.MonkeyPatch()
        for name in self.METHODS:
            self._patch.setattr(
                torch.Tensor, name, self._counted(name, getattr(torch.Tensor, name)), raising=False
            )
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        self._patch.undo()
        super().__exit__(*error)

    def _counted(self, name: str, original: Any) -> Any:
        def counted(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            self.found[f"{name} in {self._where()}"] += 1
            return original(tensor, *args, **kwargs)

        return counted

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__.strip("_")
        if any(name.startswith(n.strip("_")) for n in self.NAMES) or self._by_mask(name, args):
            where = self._where()
            if "/torch/optim/" not in where:
                self.found[f"{name} in {where}"] += 1
        return func(*args, **(kwargs or {}))

    @staticmethod
    def _by_mask(name: str, args: Any) -> bool:
        indexed = name in ("index", "index_put") and len(args) > 1
        return indexed and any(x is not None and x.dtype in (torch.bool, torch.uint8) for x in args[1])

    @staticmethod
    def _where() -> str:
        frame: Any = sys._getframe(2)
        while frame is not None:
            file = frame.f_code.co_filename
            if file.startswith(PACKAGE) or "/torch/optim/" in file:
                return f"{file}:{frame.f_lineno}"
            frame = frame.f_back
        return "?"


CASES: dict[str, tuple[str, str, str | None, dict[str, Any]]] = {
    name: ("texts", name, None, {"projection_dim": 8})
    for name in ("jaccard", "reg", "reg_ablated", "abalone", "prototype", "simdissim", "supcon_any")
} | {
    "bce": ("vectors", "bce", None, {"gradient_clip": None}),
    "asl": ("vectors", "asl", None, {"ema_decay": 0.9}),
    "zlpr": ("vectors", "zlpr", None, {}),
    "two_way": ("vectors", "two_way", None, {}),
    "focal": ("vectors", "focal", None, {"optimizer": "sgd"}),
    "joint": ("texts", "joint", None, {"projection_dim": 8}),
    "kmcl": ("vectors", "kmcl", None, {"ema_decay": 0.9}),
    "queue": ("vectors", "mulsupcon", "momentum_queue", {"projection_dim": 8, "queue_size": 40}),
    "in pieces": ("texts", "jaccard", None, {"projection_dim": 8, "micro_batch_size": 4}),
    "images": ("images", "bce", None, {}),
}


READS_LABEL_COUNTS = {"kmcl": "kmcl.py", "reg": "_contrastive.py", "reg_ablated": "_contrastive.py"}
"""Losses whose tensors have sizes that the labels decide, and the file that reads these sizes: KMCL once for each
range of anchors; REG on the CPU only, where nothing waits (`test_losses.py` of the GPU tests holds that for CUDA)."""


@pytest.mark.parametrize("case", CASES)
def test_no_step_synchronises_with_the_device(
    case: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    modality, loss, protocol, training = CASES[case]
    dataset: PreparedDataset = request.getfixturevalue(modality)
    waits, step = Waits(), loop.TrainingRun.step

    def watched(self: Any, host_batch: Any) -> None:
        with waits:
            step(self, host_batch)

    monkeypatch.setattr(loop.TrainingRun, "step", watched)
    run(cell(dataset, loss, protocol, training={"epochs": 1} | training), dataset)
    allowed = READS_LABEL_COUNTS.get(case)
    assert [place for place in waits.found if allowed is None or f"/losses/{allowed}:" not in place] == []


def test_every_kind_of_synchronisation_is_detected(
    vectors: PreparedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test above can fail."""
    values = torch.tensor([1.0, 2.0])
    for reads in (
        lambda: values[0].item(),
        lambda: bool(values.sum() > 1),
        lambda: values[values > 1],
        lambda: torch.equal(values, values),
        lambda: values.nonzero(),
        lambda: values.sum().tolist(),
        lambda: values.cpu(),
        lambda: np.asarray(values),
    ):
        with Waits() as waits:
            reads()
        assert waits.found


# Precision, compilation, memory format


def test_mixed_precision_computes_in_bfloat16_and_keeps_losses_and_weights_in_float32(
    vectors: PreparedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[torch.dtype] = set()
    linear = torch.nn.Linear.forward

    def spied(self: Any, values: torch.Tensor) -> torch.Tensor:
        result = linear(self, values)
        if torch.is_grad_enabled():
            seen.add(result.dtype)
        return result

    monkeypatch.setattr(torch.nn.Linear, "forward", spied)
    kept: list[torch.dtype] = []
    step = loop.TrainingRun.step
    monkeypatch.setattr(
        loop.TrainingRun,
        "step",
        lambda self, gathered: (step(self, gathered), kept.append(self.progress.losses[-1].dtype))[0],
    )
    training = STEADY | {"epochs": 4, "learning_rate": 0.1, "projection_dim": 8}
    mixed, _ = run(cell(vectors, "jaccard", training=training, compute=compute(precision="mixed")), vectors)
    assert torch.bfloat16 in seen
    assert set(kept) == {torch.float32}
    assert {p.dtype for p in mixed.fitted.method.parameters()} == {torch.float32}  # type: ignore[union-attr]
    whole, _ = run(cell(vectors, "jaccard", training=training), vectors)
    assert losses_of(mixed) == pytest.approx(losses_of(whole), rel=0.02)
    assert losses_of(mixed) != losses_of(whole)


def test_gradients_are_clipped_only_if_asked(
    vectors: PreparedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    norms: list[list[float]] = []
    step = loop.TrainingRun.step

    def noted(self: Any, host_batch: Any) -> None:
        step(self, host_batch)
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norms.append([float(self.progress.norms[-1]), float(torch.nn.utils.get_total_norm(gradients))])

    monkeypatch.setattr(loop.TrainingRun, "step", noted)
    for clip in (None, 1e-3):
        run(cell(vectors, "bce", training={"epochs": 1, "gradient_clip": clip}), vectors)
    (before, after), (before_clipped, after_clipped) = norms[0], norms[-1]
    assert after == pytest.approx(before)
    assert before_clipped > 0.1
    assert after_clipped == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("training", [{}, {"micro_batch_size": 4}, {"ema_decay": 0.5}], ids=str)
def test_channels_last_gives_the_same_up_to_rounding(
    images: PreparedDataset, training: dict[str, Any]
) -> None:
    settings = [
        cell(images, "bce", training=STEADY | training, compute=compute(channels_last=on))
        for on in (False, True)
    ]
    plain, last = (run(chosen, images)[0] for chosen in settings)
    assert losses_of(plain) == pytest.approx(losses_of(last), rel=1e-4)
    for readout, scores in plain.scores.items():
        for split in ("val", "test"):
            assert np.allclose(scores[split], last.scores[readout][split], atol=1e-3)
    weight = next(p for p in last.fitted.method.encoder.parameters() if p.ndim == 4)  # type: ignore[union-attr]
    assert weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.slow
@pytest.mark.parametrize(
    "training", [{}, {"ema_decay": 0.5, "selection": "best_val_loss"}, {"micro_batch_size": 8}], ids=str
)
def test_a_compiled_encoder_gives_the_same_up_to_rounding(
    vectors: PreparedDataset, training: dict[str, Any]
) -> None:
    if shutil.which("g++") is None and shutil.which("clang++") is None:
        pytest.skip("torch.compile needs a C++ compiler, and there is none")
    settings = [
        cell(vectors, "bce", training=STEADY | training, compute=compute(compile=on)) for on in (False, True)
    ]
    plain, compiled = (run(chosen, vectors)[0] for chosen in settings)
    assert losses_of(plain) == pytest.approx(losses_of(compiled), rel=1e-4)
    assert np.allclose(plain.scores["head"]["test"], compiled.scores["head"]["test"], atol=1e-4)
    assert plain.fitted is not None
    assert compiled.fitted is not None
    method = compiled.fitted.method
    assert plain.fitted.method.state_dict().keys() == method.state_dict().keys()
    if "ema_decay" not in training:
        assert method.encoder._compiled_call_impl is not None
    assert MovingAverage(method, 0.5).method.encoder is not method.encoder
    assert deepcopy(method).state_dict().keys() == method.state_dict().keys()


def test_seconds_of_step_parts_add_up_to_the_training_time(vectors: PreparedDataset) -> None:
    outcome, _ = run(cell(vectors, "bce", training={"steps_per_epoch": 50}), vectors)
    assert outcome.fitted is not None
    seconds = outcome.fitted.step_seconds
    assert set(seconds) == {"data", "forward", "loss", "backward", "optimizer"}
    assert all(value > 0 for value in seconds.values())
    assert 0.5 < sum(seconds.values()) / outcome.fitted.curve[-1].seconds <= 1
