"""The training loop that all protocols share.

One step: the views of a batch go through the encoder, the loss sees all features at once, the gradient is clipped,
the optimizer steps. Nothing in a step makes the host wait for the device; whether losses and gradients are finite is
looked at now and then. At the end of each epoch, and on SIGTERM, all state is saved: a training that goes on from
there ends with the same bits as one that was never stopped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import astuple, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from mlcl.encoders.base import Batch
from mlcl.training import optim, order, processes
from mlcl.training.ahead import made_ahead
from mlcl.training.average import MovingAverage
from mlcl.training.batches import Inputs, Tensors, TrainingSet, in_order, moved
from mlcl.training.cached_gradients import backward_in_parts
from mlcl.training.checkpoint import Checkpoint, Interrupted, StopSignal
from mlcl.training.clock import StepClock
from mlcl.training.methods.base import Method, Views
from mlcl.training.settings import ComputeSettings, TrainingSettings

if TYPE_CHECKING:
    from accelerate import Accelerator

LOOK_EVERY = 100
LOOK_SECONDS = 5.0
"""After so many steps or seconds it is looked at whether all is finite: a look makes the host wait."""
SMALLEST_SCALE = 2.0**-20
"""A float16 loss scaled down to this has had infinite gradients for dozens of steps in a row, and no step was taken."""


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
class Underway:
    """How an epoch that is not over goes."""

    epoch: int
    batches: int
    """Batches of this epoch that are over."""
    steps_per_epoch: int
    epochs: int
    loss: float
    """Mean since the last look."""
    examples_per_second: float
    epoch_seconds_left: float
    seconds_left: float


@dataclass(frozen=True)
class Resumed:
    """A checkpoint was found; training goes on in this epoch (counted from 1), after so many batches of it."""

    epoch: int
    batches: int
    epochs: int
    """All of them: one less than `epoch` if training was over."""


News = EpochReport | Underway | Resumed
"""What a training tells while it runs."""


@dataclass(frozen=True)
class Fitted:
    """A trained method, how it went, and what it took."""

    method: Method
    curve: list[EpochReport] = field(default_factory=list)
    step_seconds: dict[str, float] = field(default_factory=dict)
    """Part of the step (`clock.PARTS`) -> seconds over all steps."""
    earlier_seconds: float = 0.0
    """Of training before it was resumed; not in this process's own time."""
    earlier_cpu_seconds: float = 0.0
    """The same as CPU time, of all processes that train together."""


@dataclass(frozen=True)
class Randomness:
    """The streams that training draws from; dropout and the like draw from torch's global one."""

    order: torch.Generator
    augmentation: torch.Generator

    def apart(self, rank: int) -> None:
        """Other draws in each process; the order of batches is the same for all."""
        if rank > 0:
            self.augmentation.manual_seed(self.augmentation.initial_seed() + rank)
            torch.manual_seed(torch.initial_seed() + rank)

    def state(self) -> dict[str, Any]:
        """All but the order's, of which `Progress` takes note."""
        device = [torch.cuda.get_rng_state()] if torch.cuda.is_initialized() else []
        return {
            "augmentation": self.augmentation.get_state(),
            "host": torch.get_rng_state(),
            "device": device,
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.augmentation.set_state(state["augmentation"])
        torch.set_rng_state(state["host"])
        for device in state["device"]:
            torch.cuda.set_rng_state(device)


@dataclass
class Progress:
    """How far the training is; with the weights and `Randomness`, all that a resumed one has to know."""

    order: torch.Tensor
    """The state of the order's generator at the beginning of the current epoch."""
    epoch: int = 0
    """Epochs that are over."""
    batches: int = 0
    """Batches of the current epoch that are over."""
    learning_rate: float = 0.0
    """At the beginning of the current epoch."""
    losses: list[torch.Tensor] = field(default_factory=list)
    norms: list[torch.Tensor] = field(default_factory=list)
    """Of the steps of the current epoch."""
    curve: list[EpochReport] = field(default_factory=list)
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    """CPU time in `seconds`, of one of the processes that train together."""
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
    report: Callable[[News], None] = field(default=lambda _: None)
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
            if processes.any_of(stop.requested):  # during the last validation or checkpoint
                raise Interrupted("stopped after the last epoch; the state is saved")
        return run.result()


class _Run:
    """One training under way."""

    def __init__(self, loop: Loop, method: Method, data: TrainingSet) -> None:
        self.loop, self.settings, self.method, self.data = loop, loop.settings, method, data
        self.batch_size = min(self.settings.batch_size, len(data.rows))
        self.own_size = self.batch_size // processes.count()
        if self.own_size == 0:
            raise ValueError(
                f"{len(data.rows)} training rows cannot be shared by {processes.count()} processes"
            )
        self.accelerator: Accelerator = processes.accelerator(loop.compute)
        self.device = self.accelerator.device
        self.steps_per_epoch = order.steps_per_epoch(len(data.rows), self.settings)
        if loop.compute.channels_last:
            method.encoder.to(memory_format=torch.channels_last)
        self.average = None
        if self.settings.ema_decay is not None:
            with processes.alone(method):  # what links the processes cannot be copied
                self.average = MovingAverage(method, self.settings.ema_decay)
        self.wrapped = processes.together(method, self.device)
        total = self.settings.epochs * self.steps_per_epoch
        optimizer, self.schedule = optim.create(method, self.settings, total)
        self.optimizer = self.accelerator.prepare_optimizer(optimizer)
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        if loop.compute.compile:
            method.encoder.compile()
        loop.random.apart(processes.rank())
        self.clock = StepClock(self.device)
        self.progress = Progress(loop.random.order.get_state())
        self.looked = self.told = 0
        self.looked_at = self.begun = time.perf_counter()
        self.begun_cpu = time.process_time()
        self.earlier_seconds = self.earlier_cpu_seconds = 0.0
        method.train()

    @property
    def evaluated(self) -> Method:
        """The weights that count."""
        return self.method if self.average is None else self.average.method

    def epoch(self, stop: StopSignal) -> None:
        """One epoch, or what is left of it."""
        progress = self.progress
        self.begun, self.begun_cpu = time.perf_counter(), time.process_time()
        if progress.batches == 0:
            progress.learning_rate = float(self.schedule.get_last_lr()[0])
        lengths = self.data.inputs.lengths if self.settings.length_bucketing else None
        batches = order.epoch(self.data.rows, self.settings, self.loop.random.order, lengths)
        self.looked = self.told = progress.batches
        self.looked_at = time.perf_counter()
        ahead = made_ahead(batches[progress.batches :], self.gather, depth=2 if self._on_gpu else 0)
        self.clock.start()
        with closing(ahead):
            for _, gathered in ahead:
                self.step(gathered)
                progress.batches += 1
                if processes.any_of(stop.requested):
                    self._look(batches)
                    self._count_time()
                    self.save()
                    raise Interrupted(f"stopped in epoch {progress.epoch + 1}; the state is saved")
                if self._is_time_to_look():
                    self._look(batches)
                    self._tell()
        self._look(batches)
        self._end_epoch()
        self.save()

    def gather(self, rows: np.ndarray) -> list[Tensors]:
        """This process's part of the batch on the host, in as few pieces of about one size as are small enough."""
        own = rows[processes.rank() :: processes.count()][: self.own_size]
        pieces = np.array_split(own, math.ceil(len(own) / (self.settings.micro_batch_size or len(own))))
        found = [(torch.from_numpy(piece), *self.data.inputs.gather(piece)) for piece in pieces]
        if self._on_gpu:
            found = [tuple(tensor.pin_memory() for tensor in tensors) for tensors in found]
        return found

    def step(self, gathered: list[Tensors]) -> None:
        pieces = [moved(tensors, self.device) for tensors in gathered]
        labels = self.data.labels[torch.cat([tensors[0] for tensors in pieces])]
        views = [
            [self.data.view(tensors[1:], self.loop.random.augmentation) for tensors in pieces]
            for _ in range(self.method.views)
        ]
        self.clock.mark("data")
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._backward(views, labels)
        norm = self.accelerator.clip_grad_norm_(self.parameters, self.settings.gradient_clip or math.inf)
        self.optimizer.step()
        self.schedule.step()
        if self.average is not None:
            self.average.update(self.method)
        self.clock.mark("optimizer")
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

    def _is_time_to_look(self) -> bool:
        late = time.perf_counter() - self.looked_at >= LOOK_SECONDS
        return late or self.progress.batches - self.looked >= LOOK_EVERY

    def _look(self, batches: list[np.ndarray]) -> None:
        """Raises Diverged if a loss or a gradient since the last look was not finite."""
        progress, first = self.progress, self.looked
        self.looked, self.looked_at = progress.batches, time.perf_counter()
        if first == progress.batches:
            return
        finite = torch.isfinite(torch.stack(progress.losses[first:]))
        if self.accelerator.scaler is None:  # which meets infinite gradients by leaving out the step
            finite &= torch.isfinite(torch.stack(progress.norms[first:]))
        elif self.accelerator.scaler.get_scale() < SMALLEST_SCALE:
            finite[-1] = False
        self.clock.collect()
        if finite.all():
            return
        batch = first + int((~finite).nonzero()[0])
        step = progress.epoch * self.steps_per_epoch + batch + 1
        rows = batches[batch]
        named = ", ".join(str(self.data.ids[row]) if len(self.data.ids) else str(row) for row in rows[:5])
        raise Diverged(
            f"epoch {progress.epoch + 1}, step {step}: the loss was {progress.losses[batch].item()}, "
            f"its gradient's norm {progress.norms[batch].item()}; the batch has {len(rows)} rows: "
            f"{named}{', ...' if len(rows) > 5 else ''}"
        )

    def _tell(self) -> None:
        """How it goes, right after a look: the device has nothing left to do."""
        progress, now = self.progress, time.perf_counter()
        seconds = (progress.seconds + now - self.begun) / self._steps_done
        left = self.steps_per_epoch - progress.batches
        epochs_left = self.settings.epochs - progress.epoch - 1
        self.loop.report(
            Underway(
                progress.epoch + 1,
                progress.batches,
                self.steps_per_epoch,
                self.settings.epochs,
                torch.stack(progress.losses[self.told :]).mean().item(),
                self.batch_size / seconds,
                left * seconds,
                (left + epochs_left * self.steps_per_epoch) * seconds,
            )
        )
        self.told = progress.batches

    @property
    def _steps_done(self) -> int:
        return self.progress.epoch * self.steps_per_epoch + self.progress.batches

    def _count_time(self) -> None:
        """Of training: validation and checkpoints, at the end of an epoch, are not counted."""
        now, cpu = time.perf_counter(), time.process_time()
        self.progress.seconds += now - self.begun
        self.progress.cpu_seconds += cpu - self.begun_cpu
        self.begun, self.begun_cpu = now, cpu

    def _end_epoch(self) -> None:
        progress = self.progress
        mean = torch.stack(progress.losses).mean().item()
        self._count_time()
        progress.epoch += 1
        progress.batches, progress.losses, progress.norms = 0, [], []
        progress.order = self.loop.random.order.get_state()
        validated = self._validate()
        progress.curve.append(
            EpochReport(
                progress.epoch,
                self._steps_done,
                mean,
                progress.learning_rate,
                progress.seconds,
                self._steps_done * self.batch_size / progress.seconds,
                progress.seconds / progress.epoch * (self.settings.epochs - progress.epoch),
                **validated,
            )
        )

    def _validate(self) -> dict[str, float]:
        """Where the rule of selection asks for it: the validation's values, and the best weights so far.

        In the first process; the others wait for it in the next step.
        """
        if self.settings.selection == "last" or self.loop.validate is None or processes.rank() > 0:
            return {}
        method = self.evaluated
        method.eval()
        state = self.loop.random.state()
        with processes.alone(method):
            values = self.loop.validate(method)
        self.loop.random.restore(state)
        method.train()
        value = -values["val_loss"] if self.settings.selection == "best_val_loss" else values["val_micro_f1"]
        if math.isfinite(value) and (self.progress.best is None or value > self.progress.best):
            self.progress.best = value
            self.progress.best_weights = _on_host(method.changing_state())
        return values

    def result(self) -> Fitted:
        """Raises Diverged where weights were to be chosen by validation, and no epoch had a finite value there."""
        method = self.evaluated
        if self.progress.best_weights is not None:
            method.load_changing_state(self.progress.best_weights)
        elif self.settings.selection != "last" and self.loop.validate is not None and processes.rank() == 0:
            raise Diverged(f"{self.settings.selection}: no epoch had a finite value on validation")
        method.eval()
        return Fitted(
            method,
            self.progress.curve,
            dict(self.clock.seconds),
            self.earlier_seconds,
            self.earlier_cpu_seconds * processes.count(),  # which all work alike
        )

    def save(self) -> None:
        self.clock.collect()
        random = processes.all_of(self.loop.random.state())
        if processes.rank() > 0:
            return
        progress, scaler = self.progress, self.accelerator.scaler
        self.loop.checkpoint.save(
            {
                "precision": self._precision,
                "method": self.method.changing_state(),
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(),
                "scaler": scaler.state_dict() if scaler is not None else None,
                "average": self.average.state_dict() if self.average is not None else None,
                "random": random,
                "step_seconds": self.clock.seconds,
                "progress": {
                    **vars(progress),
                    "losses": torch.stack(progress.losses) if progress.losses else torch.zeros(0),
                    "norms": torch.stack(progress.norms) if progress.norms else torch.zeros(0),
                    "curve": [astuple(line) for line in progress.curve],
                },
            }
        )

    def resume(self) -> None:
        """Goes on where a checkpoint was written, if there is one."""
        state = self.loop.checkpoint.load()
        if not all(processes.all_of(bool(state))):
            return
        if state["precision"] != self._precision:
            raise Interrupted(
                f"training began in {state['precision']}, and this device would go on in {self._precision}; run the "
                "cell on a device like the first one, or remove its checkpoint to start over"
            )
        self.method.load_changing_state(state["method"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.clock.seconds = state["step_seconds"]
        self.loop.random.restore(state["random"][processes.rank()])
        saved = state["progress"]
        saved["losses"] = list(saved["losses"].to(self.device))
        saved["norms"] = list(saved["norms"].to(self.device))
        saved["curve"] = [EpochReport(*line) for line in saved["curve"]]
        self.progress = Progress(**saved)
        self.earlier_seconds, self.earlier_cpu_seconds = self.progress.seconds, self.progress.cpu_seconds
        self.loop.random.order.set_state(self.progress.order)
        self.loop.report(Resumed(self.progress.epoch + 1, self.progress.batches, self.settings.epochs))

    @property
    def _precision(self) -> str:
        return processes.precision(self.loop.compute, self.device)

    @property
    def _on_gpu(self) -> bool:
        return self.device.type == "cuda"


def _on_host(state: dict[str, Any]) -> dict[str, Any]:
    """A copy that takes no memory of the device."""
    return {
        key: value.detach().to("cpu", copy=True) if isinstance(value, torch.Tensor) else value
        for key, value in state.items()
    }


@torch.no_grad()
def encode(
    encoder: nn.Module,
    inputs: Inputs,
    rows: np.ndarray,
    device: torch.device,
    batch_size: int,
) -> torch.Tensor:
    """Features (n, feature_dim) float32 of the rows, in evaluation mode."""
    encoder.eval()
    return torch.cat([encoder(batch).float() for batch in _taken(inputs, rows, device, batch_size)])


def _taken(inputs: Inputs, rows: np.ndarray, device: torch.device, batch_size: int) -> Iterator[Batch]:
    for part in in_order(rows, batch_size):
        yield inputs.take(part, device)
