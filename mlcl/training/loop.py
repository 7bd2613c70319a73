"""The training loop that all protocols share.

One step: the views of a batch go through the encoder, the loss sees all features at once, gradients are clipped, the
optimizer steps. No step synchronises with the device; losses and gradients are checked for non-finite values now and
then. At ends of epochs, and on SIGTERM, the whole state is saved: a resumed training ends with the same bits as
one that was never stopped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import nn

from mlcl.training import distributed, optim
from mlcl.training.checkpoint import Checkpoint, Progress, StopSignal
from mlcl.training.diagnostics import better_weights
from mlcl.training.events import Diverged, EpochEnd, Interrupted, Resumed, StepProgress, TrainingEvent
from mlcl.training.grad_cache import cached_backward
from mlcl.training.inputs import sampling
from mlcl.training.inputs.batches import Tensors, TrainingSet, to_device
from mlcl.training.inputs.prefetch import prefetch
from mlcl.training.methods import Method, Views
from mlcl.training.optim import MovingAverage
from mlcl.training.seeding import Randomness
from mlcl.training.settings import ComputeSettings, TrainingSettings
from mlcl.training.step_timer import StepTimer
from mlcl.training.watch import NonFiniteWatch

if TYPE_CHECKING:
    from accelerate import Accelerator

PREFETCHED_BATCHES = 2
"""Batches gathered in advance while a GPU computes; on a CPU a thread would only compete for its cores."""
SAVE_EVERY = 10.0
"""Seconds between two checkpoints at ends of epochs: writing one takes as long as a short epoch. The first and the last
epoch are always saved."""


@dataclass(frozen=True)
class FitResult:
    """A trained method, its learning curve, and the time it took."""

    method: Method
    curve: list[EpochEnd] = field(default_factory=list)
    step_seconds: dict[str, float] = field(default_factory=dict)
    """Part of the step (`step_timer.PARTS`) -> seconds over all steps."""
    earlier_seconds: float = 0.0
    """Training time before training was resumed, in earlier processes."""
    earlier_cpu_seconds: float = 0.0
    """The same as CPU time, of all processes that train together."""
    cpu_seconds: float = 0.0
    """CPU time of the training, of all processes, earlier ones included; without validation and checkpoints."""
    ema: dict[str, float] | None = None
    """The mAP on validation of `averaged` and `plain` weights, where they compete (`better_weights`)."""


Measured = TypeVar("Measured")
Validation = Callable[[Method], dict[str, float]]
"""A method -> "val_loss" and "val_micro_f1"."""


@dataclass
class Loop:
    """Trains a method. The same seed gives the same order of batches, whatever the loss."""

    settings: TrainingSettings
    compute: ComputeSettings
    random: Randomness
    report: Callable[[TrainingEvent], None] = field(default=lambda _: None)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    validate: Validation | None = None
    val_map: Callable[[Method], float] | None = None
    """mAP on validation, which chooses between averaged and plain weights; None: always the averaged ones."""

    def fit(self, method: Method, data: TrainingSet) -> FitResult:
        """Trains in place. With a moving average, the returned method may be a copy with averaged weights.

        Raises Diverged, naming the batch, for a loss or gradient that is not finite, and Interrupted after a SIGTERM,
        once the state is saved.
        """
        run = TrainingRun(self, method, data)
        with StopSignal() as stop:
            run.resume()
            while run.progress.epoch < self.settings.epochs:
                run.epoch(stop)
                self.report(run.progress.curve[-1])
            if distributed.any_rank(stop.requested):  # during the last validation or checkpoint
                raise Interrupted("stopped after the last epoch; the state is saved")
        return run.result()


class TrainingRun:
    """The state of one call of `Loop.fit`."""

    def __init__(self, loop: Loop, method: Method, data: TrainingSet) -> None:
        self.loop, self.settings, self.method, self.data = loop, loop.settings, method, data
        self.batch_size = min(self.settings.batch_size, len(data.rows))
        self.rank_size = self.batch_size // distributed.world_size()
        if self.rank_size == 0:
            raise ValueError(
                f"{len(data.rows)} training rows cannot be shared by {distributed.world_size()} processes"
            )
        self.accelerator: Accelerator = distributed.accelerator(loop.compute)
        self.device = self.accelerator.device
        self.steps_per_epoch = sampling.steps_per_epoch(len(data.rows), self.settings, len(data.labels))
        if loop.compute.channels_last:
            method.encoder.to(memory_format=torch.channels_last)
        self.average = None
        if self.settings.ema_decay is not None:
            with distributed.single_process(method):  # a process group cannot be copied
                self.average = MovingAverage(method, self.settings.ema_decay, self.settings.ema_warmup)
        self.wrapped = distributed.wrap_ddp(method, self.device)
        total = self.settings.epochs * self.steps_per_epoch
        optimizer, self.schedule = optim.create(method, self.settings, total)
        # Only loss scaling needs Accelerate's optimizer, which takes longer than a step of a small network.
        scaled = self.accelerator.scaler is not None
        self.optimizer = self.accelerator.prepare_optimizer(optimizer) if scaled else optimizer
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        if loop.compute.compile:
            method.encoder.compile()
        loop.random.offset_streams_by_rank(distributed.rank())
        self.timer = StepTimer(self.device)
        self.progress = Progress(loop.random.order.get_state())
        self.watch = NonFiniteWatch(data.ids, self.steps_per_epoch)
        self.last_report = 0
        self.last_save = -math.inf
        self.begun = time.perf_counter()
        self.begun_cpu = time.process_time()
        self.earlier_seconds = self.earlier_cpu_seconds = 0.0
        method.train()

    def evaluated(self) -> Method:
        """The method with the weights that are evaluated: plain, averaged, or the better of these on validation."""
        if self.average is None:
            return self.method
        if self.loop.val_map is None or distributed.rank() > 0:
            return self.average.method
        candidates = {"averaged": self.average.method, "plain": self.method}
        values = {name: self._measure(method, self.loop.val_map) for name, method in candidates.items()}
        self.progress.ema = values
        return candidates[better_weights(values)]

    def _measure(self, method: Method, measure: Callable[[Method], Measured]) -> Measured:
        """What `measure` returns for the method in evaluation mode; random streams and mode stay as they were."""
        method.eval()
        state = self.loop.random.state()
        with distributed.single_process(method):
            measured = measure(method)
        self.loop.random.restore(state)
        method.train()
        return measured

    def epoch(self, stop: StopSignal) -> None:
        """Trains one epoch, or the rest of it."""
        progress = self.progress
        self.begun, self.begun_cpu = time.perf_counter(), time.process_time()
        if progress.batches == 0:
            progress.learning_rate = float(self.schedule.get_last_lr()[0])
        lengths = self.data.inputs.lengths if self.settings.length_bucketing else None
        batches = sampling.epoch_batches(
            self.data.rows, self.settings, self.loop.random.order, lengths, len(self.data.labels)
        )
        self.last_report = progress.batches
        self.watch.start(progress.batches)
        depth = PREFETCHED_BATCHES if self._on_gpu else 0
        prefetched = prefetch(batches[progress.batches :], self.gather, depth)
        self.timer.start()
        with closing(prefetched):
            for _, host_batch in prefetched:
                self.step(host_batch)
                progress.batches += 1
                if distributed.any_rank(stop.requested):
                    self._check_finite(batches)
                    self._count_time()
                    self.save()
                    raise Interrupted(f"stopped in epoch {progress.epoch + 1}; the state is saved")
                if self.watch.due(progress.batches):
                    self._check_finite(batches)
                    self._report_progress()
        self._check_finite(batches)
        self._end_epoch()
        is_over = self.progress.epoch == self.settings.epochs  # a second stage, or the evaluation, follows
        if is_over or distributed.any_rank(time.monotonic() - self.last_save >= SAVE_EVERY):
            self.save()

    def gather(self, rows: np.ndarray) -> list[Tensors]:
        """This rank's rows of the batch on the host, in the fewest micro-batches of similar size that are allowed.

        Each is the row numbers, then what is stored of these rows.
        """
        rank_rows = rows[distributed.rank() :: distributed.world_size()][: self.rank_size]
        count = math.ceil(len(rank_rows) / (self.settings.micro_batch_size or len(rank_rows)))
        micro_batches = np.array_split(rank_rows, count)
        host_batch = [(torch.from_numpy(part), *self.data.inputs.gather(part)) for part in micro_batches]
        if self._on_gpu:
            host_batch = [tuple(tensor.pin_memory() for tensor in tensors) for tensors in host_batch]
        return host_batch

    def step(self, host_batch: list[Tensors]) -> None:
        micro_batches = [to_device(tensors, self.device) for tensors in host_batch]
        labels = self.data.labels[torch.cat([tensors[0] for tensors in micro_batches])]
        views = [
            [self.data.view(tensors[1:], self.loop.random.augmentation) for tensors in micro_batches]
            for _ in range(self.method.views)
        ]
        self.timer.mark("data")
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._backward(views, labels)
        # Not Accelerate's clip_grad_norm_, which does the same but imports torch.distributed.tensor first: a second.
        self.accelerator.unscale_gradients()
        norm = nn.utils.clip_grad_norm_(self.parameters, self.settings.gradient_clip or math.inf)
        self.optimizer.step()
        self.schedule.step()
        if self.average is not None:
            self.average.update(self.method, self._steps_done + 1)
        self.timer.mark("optimizer")
        self.progress.losses.append(loss.detach())
        self.progress.norms.append(norm)

    def _backward(self, views: Views, labels: torch.Tensor) -> torch.Tensor:
        if len(views[0]) > 1:
            return cached_backward(self.method, views, labels, self.accelerator, self.timer)
        with self.accelerator.autocast():
            loss: torch.Tensor = self.wrapped(views, labels, self.timer.mark)
        self.accelerator.backward(loss)
        self.timer.mark("backward")
        return loss

    def _check_finite(self, batches: list[np.ndarray]) -> None:
        progress, scaler = self.progress, self.accelerator.scaler
        scale = scaler.get_scale() if scaler is not None else None
        self.watch.check(progress.epoch, batches, progress.losses, progress.norms, scale)
        self.timer.collect()

    def _report_progress(self) -> None:
        """Right after a check, which synchronised with the device: times are of finished steps."""
        progress, now = self.progress, time.perf_counter()
        seconds = (progress.seconds + now - self.begun) / self._steps_done
        left = self.steps_per_epoch - progress.batches
        epochs_left = self.settings.epochs - progress.epoch - 1
        self.loop.report(
            StepProgress(
                progress.epoch + 1,
                progress.batches,
                self.steps_per_epoch,
                self.settings.epochs,
                torch.stack(progress.losses[self.last_report :]).mean().item(),
                self.batch_size / seconds,
                left * seconds,
                (left + epochs_left * self.steps_per_epoch) * seconds,
            )
        )
        self.last_report = progress.batches

    @property
    def _steps_done(self) -> int:
        return self.progress.epoch * self.steps_per_epoch + self.progress.batches

    def _count_time(self) -> None:
        """Adds the training time since the last call; validation and checkpoints are left out."""
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
            EpochEnd(
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
        """Values on validation, where `selection` needs them; notes the best weights so far.

        On rank 0; the others wait for it in the next step.
        """
        if self.settings.selection == "last" or self.loop.validate is None or distributed.rank() > 0:
            return {}
        method = self.evaluated()
        values = self._measure(method, self.loop.validate)
        value = -values["val_loss"] if self.settings.selection == "best_val_loss" else values["val_micro_f1"]
        if math.isfinite(value) and (self.progress.best is None or value > self.progress.best):
            self.progress.best = value
            self.progress.best_weights = _on_host(method.trainable_state_dict())
            self.progress.best_ema = self.progress.ema
        return values

    def result(self) -> FitResult:
        """The method with the selected weights. Raises Diverged if no epoch had a finite value on validation."""
        if self.progress.best_weights is not None:
            method, ema = self.average.method if self.average else self.method, self.progress.best_ema
            method.load_trainable_state_dict(self.progress.best_weights)
        elif self.settings.selection != "last" and self.loop.validate is not None and distributed.rank() == 0:
            raise Diverged(f"{self.settings.selection}: no epoch had a finite value on validation")
        else:
            method, ema = self.evaluated(), self.progress.ema
        method.eval()
        return FitResult(
            method,
            self.progress.curve,
            dict(self.timer.seconds),
            self.earlier_seconds,
            self.earlier_cpu_seconds * distributed.world_size(),  # all take about the same
            self.progress.cpu_seconds * distributed.world_size(),
            ema,
        )

    def save(self) -> None:
        self.timer.collect()
        self.last_save = time.monotonic()
        random = distributed.all_gather_object(self.loop.random.state())
        if distributed.rank() > 0:
            return
        scaler = self.accelerator.scaler
        self.loop.checkpoint.save(
            {
                "precision": self.precision,
                "method": self.method.trainable_state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(),
                "scaler": scaler.state_dict() if scaler is not None else None,
                "average": self.average.state_dict() if self.average is not None else None,
                "random": random,
                "step_seconds": self.timer.seconds,
                "progress": self.progress.state_dict(),
            }
        )

    def resume(self) -> None:
        """Restores the state of the checkpoint, if there is one. Raises Interrupted if it cannot be used here."""
        state = self.loop.checkpoint.load()
        if not all(distributed.all_gather_object(bool(state))):
            return
        if state["precision"] != self.precision:
            raise Interrupted(
                f"training began in precision {state['precision']}, but this device trains in {self.precision}: run "
                f"the cell on a device like the first one, or delete {self.loop.checkpoint.file} to start over"
            )
        self.method.load_trainable_state_dict(state["method"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.timer.seconds = state["step_seconds"]
        self.loop.random.restore(state["random"][distributed.rank()])
        self.progress = Progress.from_state_dict(state["progress"], self.device)
        self.earlier_seconds, self.earlier_cpu_seconds = self.progress.seconds, self.progress.cpu_seconds
        self.loop.random.order.set_state(self.progress.order)
        self.loop.report(Resumed(self.progress.epoch + 1, self.progress.batches, self.settings.epochs))

    @property
    def precision(self) -> str:
        return distributed.precision(self.loop.compute, self.device)

    @property
    def _on_gpu(self) -> bool:
        return self.device.type == "cuda"


def _on_host(state: dict[str, Any]) -> dict[str, Any]:
    """A copy in host memory."""
    return {
        key: value.detach().to("cpu", copy=True) if isinstance(value, torch.Tensor) else value
        for key, value in state.items()
    }
