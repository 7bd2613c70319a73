"""The training loop that all protocols share: AdamW, warm-up and cosine, clipping, a learning curve."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from mlcl.encoders.base import Batch
from mlcl.training.batches import Inputs, in_order, shuffled, steps_per_epoch
from mlcl.training.settings import TrainingSettings

StepLoss = Callable[[Batch, torch.Tensor], torch.Tensor]
"""(batch, labels (B, L)) -> scalar"""


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


@dataclass(frozen=True)
class TrainingSet:
    """The rows that may be trained on, with their inputs and labels."""

    inputs: Inputs
    labels: torch.Tensor
    """(N, L) uint8 of the whole split, on the device."""
    rows: np.ndarray
    """The row numbers of the subset."""


@dataclass
class Loop:
    """Trains modules on a loss; the same seed gives the same order of batches whatever the loss."""

    settings: TrainingSettings
    device: torch.device
    order: torch.Generator
    report: Callable[[EpochReport], None] = field(default=lambda _: None)

    def run(self, modules: nn.ModuleList, step_loss: StepLoss, data: TrainingSet) -> list[EpochReport]:
        """Returns the learning curve. Raises Diverged at the end of the epoch in which a loss was not finite."""
        steps = self.settings.epochs * steps_per_epoch(len(data.rows), self.settings.batch_size)
        optimiser = torch.optim.AdamW(
            _parameter_groups(modules, self.settings.weight_decay), lr=self.settings.learning_rate
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser, _warmup_then_cosine(steps, self.settings.warmup)
        )
        parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
        curve: list[EpochReport] = []
        begun = time.perf_counter()
        modules.train()
        for epoch in range(1, self.settings.epochs + 1):
            rate = float(schedule.get_last_lr()[0])
            losses, norms = [], []
            for rows in shuffled(data.rows, self.settings.batch_size, self.order):
                loss = step_loss(data.inputs.take(rows, self.device), data.labels[torch.from_numpy(rows)])
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                norms.append(nn.utils.clip_grad_norm_(parameters, self.settings.gradient_clip))
                optimiser.step()
                schedule.step()
                losses.append(loss.detach())
            taken = (epoch - 1) * len(losses)
            # Looked at once per epoch, so that a GPU need not wait for the host at every step.
            mean = _finite_mean(torch.stack(losses), torch.stack(norms), epoch, taken)
            seconds = time.perf_counter() - begun
            curve.append(EpochReport(epoch, taken + len(losses), mean, rate, seconds))
            self.report(curve[-1])
        modules.eval()
        return curve


def _parameter_groups(modules: nn.ModuleList, weight_decay: float) -> Iterable[dict[str, object]]:
    """Biases and the parameters of normalisations (all that is one-dimensional) do not decay."""
    parameters = [parameter for parameter in modules.parameters() if parameter.requires_grad]
    yield {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay}
    yield {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0}


def _warmup_then_cosine(steps: int, warmup: float) -> Callable[[int], float]:
    rising = math.ceil(warmup * steps)

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))

    return factor


def _finite_mean(losses: torch.Tensor, norms: torch.Tensor, epoch: int, taken: int) -> float:
    finite = torch.isfinite(losses) & torch.isfinite(norms)
    if not finite.all():
        first = int((~finite).nonzero()[0])
        raise Diverged(
            f"epoch {epoch}, step {taken + first + 1}: the loss was {losses[first].item()}, "
            f"its gradient's norm {norms[first].item()}"
        )
    return losses.mean().item()


@torch.no_grad()
def encode(encoder: nn.Module, inputs: Inputs, rows: np.ndarray, device: torch.device) -> torch.Tensor:
    """Features (n, feature_dim) of the rows, in evaluation mode."""
    encoder.eval()
    return torch.cat([encoder(inputs.take(part, device)) for part in _evaluation_batches(rows)])


def _evaluation_batches(rows: np.ndarray) -> Iterator[np.ndarray]:
    return in_order(rows, 512)
