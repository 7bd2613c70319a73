"""Optimizer and learning-rate schedule by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from mlcl.training.settings import TrainingSettings

_OPTIMIZERS: dict[str, tuple[type[Optimizer], dict[str, Any]]] = {
    "adam": (torch.optim.Adam, {}),
    "adamw": (torch.optim.AdamW, {}),
    "sgd": (torch.optim.SGD, {"momentum": 0.9}),
}


def create(modules: nn.Module, settings: TrainingSettings, steps: int) -> tuple[Optimizer, LRScheduler]:
    """Optimizer and schedule for `steps` steps; the schedule is to be stepped after each of them."""
    kind, extra = _OPTIMIZERS[settings.optimizer]
    groups = list(_parameter_groups(modules, settings.weight_decay))
    # One kernel for all weights, and float16's check for infinity stays on the device.
    fused = True if all(p.is_cuda for group in groups for p in group["params"]) else None
    optimizer = kind(groups, lr=settings.learning_rate, fused=fused, **extra)  # type: ignore[call-arg]
    if settings.schedule == "one_cycle":
        # torch divides by the lengths of both slopes: neither may be empty.
        total = max(steps, 4)
        rising = min(max(settings.warmup, 2 / total), 1 - 1 / total)
        return optimizer, OneCycleLR(
            optimizer, max_lr=settings.learning_rate, total_steps=total, pct_start=rising
        )
    return optimizer, LambdaLR(optimizer, _factor(settings.schedule, steps, settings.warmup))


def _parameter_groups(modules: nn.Module, weight_decay: float) -> Iterator[dict[str, Any]]:
    """Biases and the parameters of normalisations (all that is one-dimensional) do not decay."""
    parameters = [parameter for parameter in modules.parameters() if parameter.requires_grad]
    yield {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay}
    yield {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0}


def _factor(schedule: str, steps: int, warmup: float) -> Callable[[int], float]:
    """The share of the learning rate at a step: a linear rise, then the schedule's fall to 0."""
    rising = math.ceil(warmup * steps - 1e-9)  # 0.07 * 100 is a little more than 7

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        passed = (step - rising) / max(1, steps - rising)
        match schedule:
            case "cosine":
                return 0.5 * (1 + math.cos(math.pi * passed))
            case "linear":
                return 1 - passed
            case _:
                return 1.0

    return factor
