"""Optimizer, learning-rate schedule, and the exponential moving average (EMA) of weights."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from mlcl.training.methods import Method
from mlcl.training.settings import TrainingSettings


class _Eager(Optimizer):
    """torch's methods without the decorators that keep torch.compile out of them.

    At its first call each of these decorators imports the compiler, which takes longer than many a training. Only
    encoders are compiled here (`compute.compile`), never a step of the optimizer.
    """

    add_param_group = inspect.unwrap(Optimizer.add_param_group)
    load_state_dict = inspect.unwrap(Optimizer.load_state_dict)
    state_dict = inspect.unwrap(Optimizer.state_dict)
    zero_grad = inspect.unwrap(Optimizer.zero_grad)


class Adam(_Eager, torch.optim.Adam):
    step = torch.no_grad()(inspect.unwrap(torch.optim.Adam.step))


class AdamW(_Eager, torch.optim.AdamW):
    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))


class SGD(_Eager, torch.optim.SGD):
    step = torch.no_grad()(inspect.unwrap(torch.optim.SGD.step))


_OPTIMIZERS: dict[str, tuple[Callable[..., Optimizer], dict[str, Any]]] = {
    "adam": (Adam, {}),
    "adamw": (AdamW, {}),
    "sgd": (SGD, {"momentum": 0.9}),
}


def create(modules: nn.Module, settings: TrainingSettings, steps: int) -> tuple[Optimizer, LRScheduler]:
    """Optimizer and schedule for `steps` steps; step the schedule after each of them."""
    kind, extra = _OPTIMIZERS[settings.optimizer]
    groups = list(_parameter_groups(modules, settings.weight_decay))
    # Fused: one kernel for all weights, and float16's check for infinities stays on the device. On a CPU a step takes a
    # third to a sixth of the time.
    optimizer = kind(groups, lr=settings.learning_rate, fused=True, **extra)
    if settings.schedule == "one_cycle":
        # OneCycleLR divides by the lengths of both slopes: neither may be empty.
        total = max(steps, 4)
        rising = min(max(settings.warmup, 2 / total), 1 - 1 / total)
        return optimizer, OneCycleLR(
            optimizer, max_lr=settings.learning_rate, total_steps=total, pct_start=rising
        )
    return optimizer, LambdaLR(optimizer, _factor(settings.schedule, steps, settings.warmup))


def _parameter_groups(modules: nn.Module, weight_decay: float) -> Iterator[dict[str, Any]]:
    """No weight decay for biases and the parameters of normalisation layers: whatever is one-dimensional."""
    parameters = [parameter for parameter in modules.parameters() if parameter.requires_grad]
    yield {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay}
    yield {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0}


def _factor(schedule: str, steps: int, warmup: float) -> Callable[[int], float]:
    """Step -> factor of the learning rate: linear warm-up, then the schedule, which falls to 0 unless constant."""
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


class MovingAverage:
    """A copy of a method with averaged weights: after each step, average = decay * average + (1 - decay) * weights.

    Starts from the initial weights, as KMCL's code does. With `warmup` the decay of step t, counted from 1, is at most
    (1 + t) / (10 + t), as in TensorFlow's and diffusers' averages. Batch-normalisation statistics are averaged too;
    integer buffers (counters) are copied. torch's AveragedModel computes the same, but synchronises with the device.
    """

    def __init__(self, method: Method, decay: float, warmup: bool = False) -> None:
        self.method = deepcopy(method, method.frozen_parameters())
        self._decay, self._warmup = decay, warmup

    @torch.no_grad()
    def update(self, method: Method, step: int) -> None:
        """`step`: how many the optimizer has taken, this one included."""
        decay = min(self._decay, (1 + step) / (10 + step)) if self._warmup else self._decay
        pairs = list(zip(_tensors(self.method), _tensors(method), strict=True))
        floats = [(mean, new) for mean, new in pairs if mean.is_floating_point() and mean is not new]
        torch._foreach_lerp_([mean for mean, _ in floats], [new for _, new in floats], 1 - decay)
        for mean, new in pairs:
            if not mean.is_floating_point():
                mean.copy_(new)

    def state_dict(self) -> dict[str, Any]:
        return self.method.trainable_state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.method.load_trainable_state_dict(state)


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()
