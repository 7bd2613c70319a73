"""The training loop that all protocols share.

One step: the views of a batch go through the encoder, the loss sees all features at once, the gradient is clipped,
the optimiser steps. Nothing in a step makes the host wait for the device; whether losses and gradients are finite is
looked at every hundred steps. At the end of each epoch, and on SIGTERM, all state is saved: a training that goes on
from there ends with the same bits as one that was never stopped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mlcl.encoders.base import Batch
from mlcl.training import optimisers, order, processes
from mlcl.training.ahead import made_ahead
from mlcl.training.batches import Inputs, Tensors, TrainingSet, in_order, moved
from mlcl.training.cached_gradients import backward_in_parts
from mlcl.training.checkpoint import Checkpoint, Interrupted, StopSignal
from mlcl.training.clock import StepClock
from mlcl.training.methods.base import Method, Views
from mlcl.training.settings import ComputeSettings, TrainingSettings

if TYPE_CHECKING:
    from accelerate import Accelerator

LOOK_EVERY = 100
"""Steps after which it is looked at whether all is finite: a look makes the host wait."""
EVALUATION_BATCH = 512


class Diverged(Exception):  # noqa: N818 (a result, reported as a status)
    """The loss or a gradient is not finite."""


@dataclass(frozen=True)
class EpochReport:
    """A line of the learning curve."""

    epoch: int
    step: int
    loss: float
    learning_rate: float
    seconds: float
    examples_per_second: float
    seconds_left: float
    val_loss: float | None = None
    val_micro_f1: float | None = None


@dataclass(frozen=True)
class Fitted:
    """A trained method, how it went, and what it took."""

    method: Method
    curve: list[EpochReport] = field(default_factory=list)
    step_seconds: dict[str, float] = field(default_factory=dict)
    """Part of the step (`clock.PARTS`) -> seconds over all steps."""


@dataclass(frozen=True)
class Randomness:
    """The streams that training draws from; dropout and the like draw from torch's global one."""

    order: torch.Generator
    augmentation: torch.Generator

    def state(self) -> dict[str, Any]:
        device = [torch.cuda.get_rng_state()] if torch.cuda.is_initialized() else []
        return {
            "augmentation": self.augmentation.get_state(),
            "host": torch.get_rng_state(),
            "device": device,
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.augmentation.set_state(state["augmentation"].cpu())
        torch.set_rng_state(state["host"].cpu())
        for device in state["device"]:
            torch.cuda.set_rng_state(device.cpu())


@dataclass
class Progress:
    """How far the training is; with the weights and `Randomness`, all that a resumed one has to know."""

    epoch: int = 0
    """Epochs that are over."""
    batches: int = 0
    """Batches of the current epoch that are over."""
    order: torch.Tensor | None = None
    """The state of the order's generator at the beginning of the current epoch."""
    losses: list[torch.Tensor] = field(default_factory=list)
    norms: list[torch.Tensor] = field(default_factory=list)
    """Of the steps of the current epoch."""
    curve: list[EpochReport] = field(default_factory=list)
    seconds: float = 0.0
    best: float | None = None
    best_weights: dict[str, Any] | None = None


Validation = Callable[[Method], dict[str, float]]
"""A method -> "val_loss" and "val_micro_f1"."""


@dataclass
class Loop:
    """Trains a method; the same seed gives the same order of batches whatever the loss."""

    settings: TrainingSettings
    compute: ComputeSettings
    random: Randomness
    report: Callable[[EpochReport], None] = field(default=lambda _: None)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    validate: Validation | None = None

    def fit(self, method: Method, data: TrainingSet) -> Fitted:
        """Trains in place. With a moving average, what comes back is another copy of the method.

        Raises Diverged with the batch that did it, and Interrupted after a SIGTERM, when all is saved.
        """
        run = _Run(self, method, data)
        with StopSignal() as stop:
            run.resume()
            while run.progress.epoch < self.settings.epochs:
                run.epoch(stop)
                self.report(run.progress.curve[-1])
        return run.result()


class _Run:
    """One training under way."""

    def __init__(self, loop: Loop, method: Method, data: TrainingSet) -> None:
        self.loop, self.settings, self.method, self.data = loop, loop.settings, method, data
        self.accelerator: Accelerator = processes.accelerator(loop.compute)
        self.device = self.accelerator.device
        self.steps_per_epoch = order.steps_per_epoch(len(data.rows), self.settings)
        total = self.settings.epochs * self.steps_per_epoch
        optimiser, self.schedule = optimisers.create(method, self.settings, total)
        self.optimiser = self.accelerator.prepare_optimizer(optimiser)
        self.parameters = [p for group in optimiser.param_groups for p in group["params"]]
        self.average = None
        if self.settings.ema_decay is not None:
            self.average = AveragedModel(
                method, multi_avg_fn=get_ema_multi_avg_fn(self.settings.ema_decay), use_buffers=True
            )
        if loop.compute.compile:
            method.encoder.compile()
        self.wrapped: nn.Module = method
        if processes.count() > 1:
            self.wrapped = self.accelerator.prepare_model(method)
        self.clock = StepClock(self.device)
        self.progress = Progress()
        self.begun = time.perf_counter()
        method.train()

    @property
    def evaluated(self) -> Method:
        """The weights that count."""
        if self.average is None:
            return self.method
        averaged = self.average.module
        assert isinstance(averaged, Method)
        return averaged

    def epoch(self, stop: StopSignal) -> None:
        """One epoch, or what is left of it."""
        progress, rate = self.progress, float(self.schedule.get_last_lr()[0])
        if progress.batches == 0:
            progress.order = self.loop.random.order.get_state()
        lengths = self.data.inputs.lengths if self.settings.length_bucketing else None
        batches = order.epoch(self.data.rows, self.settings, self.loop.random.order, lengths)
        looked = progress.batches
        self.clock.start()
        for rows, gathered in made_ahead(batches[looked:], self.gather, depth=2 if self._on_gpu else 0):
            self.step(rows, gathered)
            progress.batches += 1
            if progress.batches - looked >= LOOK_EVERY:
                self._look(batches, looked)
                looked = progress.batches
            if stop.requested:
                self.save()
                raise Interrupted(f"stopped in epoch {progress.epoch + 1}; the state is saved")
        self._look(batches, looked)
        self.clock.collect()
        self._end_epoch(rate)
        self.save()

    def gather(self, rows: np.ndarray) -> list[Tensors]:
        """This process's part of the batch on the host, in as many pieces as go through the encoder."""
        own = rows[processes.rank() :: processes.count()]
        pieces = in_order(own, self.settings.micro_batch_size or len(own))
        found = [(torch.from_numpy(piece), *self.data.inputs.gather(piece)) for piece in pieces]
        if self._on_gpu:
            found = [tuple(tensor.pin_memory() for tensor in tensors) for tensors in found]
        return found

    def step(self, rows: np.ndarray, gathered: list[Tensors]) -> None:
        pieces = [moved(tensors, self.device) for tensors in gathered]
        labels = self.data.labels[torch.cat([tensors[0] for tensors in pieces])]
        views = [
            [self.data.view(tensors[1:], self.loop.random.augmentation) for tensors in pieces]
            for _ in range(self.method.views)
        ]
        self.clock.mark("data")
        self.optimiser.zero_grad(set_to_none=True)
        loss = self._backward(views, labels)
        norm = self.accelerator.clip_grad_norm_(self.parameters, self.settings.gradient_clip or math.inf)
        self.optimiser.step()
        self.schedule.step()
        if self.average is not None:
            self.average.update_parameters(self.method)
        self.clock.mark("optimiser")
        self.progress.losses.append(loss.detach())
        self.progress.norms.append(norm)

    def _backward(self, views: Views, labels: torch.Tensor) -> torch.Tensor:
        if len(views[0]) > 1:
            return backward_in_parts(self.method, views, labels, self.accelerator, self.clock)
        with self.accelerator.autocast():
            loss: torch.Tensor = self.wrapped(views, labels, self.clock.mark)
        self.accelerator.backward(loss)
        self.clock.mark("backward")
        return loss

    def _look(self, batches: list[np.ndarray], first: int) -> None:
        """Raises Diverged if a loss or a gradient since batch `first` of this epoch was not finite."""
        losses, norms = torch.stack(self.progress.losses[first:]), torch.stack(self.progress.norms[first:])
        finite = torch.isfinite(losses)
        if self.accelerator.scaler is None:  # which meets infinite gradients by leaving out the step
            finite &= torch.isfinite(norms)
        if finite.all():
            return
        batch = first + int((~finite).nonzero()[0])
        step = self.progress.epoch * self.steps_per_epoch + batch + 1
        rows = batches[batch]
        named = ", ".join(str(self.data.ids[row]) if len(self.data.ids) else str(row) for row in rows[:5])
        raise Diverged(
            f"epoch {self.progress.epoch + 1}, step {step}: the loss was {self.progress.losses[batch].item()}, "
            f"its gradient's norm {self.progress.norms[batch].item()}; the batch has {len(rows)} rows: "
            f"{named}{', ...' if len(rows) > 5 else ''}"
        )

    def _end_epoch(self, rate: float) -> None:
        progress = self.progress
        mean = torch.stack(progress.losses).mean().item()
        now = time.perf_counter()
        progress.seconds += now - self.begun
        self.begun = now
        progress.epoch += 1
        validated = self._validate()
        step = progress.epoch * self.steps_per_epoch
        examples = step * min(self.settings.batch_size, len(self.data.rows))
        left = progress.seconds / progress.epoch * (self.settings.epochs - progress.epoch)
        progress.curve.append(
            EpochReport(
                progress.epoch,
                step,
                mean,
                rate,
                progress.seconds,
                examples / progress.seconds,
                left,
                **validated,
            )
        )
        progress.batches, progress.losses, progress.norms = 0, [], []

    def _validate(self) -> dict[str, float]:
        """Where the rule of selection asks for it: the validation's values, and the best weights so far."""
        if self.settings.selection == "last" or self.loop.validate is None:
            return {}
        method = self.evaluated
        method.eval()
        state = self.loop.random.state()
        values = self.loop.validate(method)
        self.loop.random.restore(state)
        method.train()
        value = -values["val_loss"] if self.settings.selection == "best_val_loss" else values["val_micro_f1"]
        if self.progress.best is None or value > self.progress.best:
            self.progress.best = value
            self.progress.best_weights = _copied(method.state_dict())
        return values

    def result(self) -> Fitted:
        method = self.evaluated
        if self.progress.best_weights is not None:
            method.load_state_dict(self.progress.best_weights)
        method.eval()
        return Fitted(method, self.progress.curve, dict(self.clock.seconds))

    def save(self) -> None:
        if processes.rank() > 0:
            return
        progress, scaler = self.progress, self.accelerator.scaler
        self.loop.checkpoint.save(
            {
                "method": self.method.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "schedule": self.schedule.state_dict(),
                "scaler": scaler.state_dict() if scaler is not None else None,
                "average": self.average.state_dict() if self.average is not None else None,
                "random": self.loop.random.state(),
                "step_seconds": self.clock.seconds,
                "progress": {
                    **vars(progress),
                    "curve": [astuple(line) for line in progress.curve],
                    "seconds": progress.seconds + time.perf_counter() - self.begun,
                },
            }
        )

    def resume(self) -> None:
        """Goes on where a checkpoint was written, if there is one."""
        state = self.loop.checkpoint.load(self.device)
        if not state:
            return
        self.method.load_state_dict(state["method"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.clock.seconds = state["step_seconds"]
        curve = [EpochReport(*line) for line in state["progress"].pop("curve")]
        self.progress = Progress(**state["progress"], curve=curve)
        self.loop.random.restore(state["random"])
        if self.progress.batches > 0:
            assert self.progress.order is not None
            self.loop.random.order.set_state(self.progress.order.cpu())
        self.begun = time.perf_counter()

    @property
    def _on_gpu(self) -> bool:
        return self.device.type == "cuda"


def _copied(state: dict[str, Any]) -> dict[str, Any]:
    return {
        key: value.detach().clone() if isinstance(value, torch.Tensor) else value
        for key, value in state.items()
    }


@torch.no_grad()
def encode(
    encoder: nn.Module,
    inputs: Inputs,
    rows: np.ndarray,
    device: torch.device,
    batch_size: int = EVALUATION_BATCH,
) -> torch.Tensor:
    """Features (n, feature_dim) float32 of the rows, in evaluation mode."""
    encoder.eval()
    return torch.cat([encoder(batch).float() for batch in _taken(inputs, rows, device, batch_size)])


def _taken(inputs: Inputs, rows: np.ndarray, device: torch.device, batch_size: int) -> Iterator[Batch]:
    for part in in_order(rows, batch_size):
        yield inputs.take(part, device)
