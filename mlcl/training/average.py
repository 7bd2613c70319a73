"""A moving average of the weights that are trained."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from mlcl.training.methods.base import Method


class MovingAverage:
    """A copy of a method whose weights follow: after each step, average = decay * average + (1 - decay) * weights.

    Begins with the weights before training, as KMCL's code does. Statistics of batch normalisation are averaged too;
    what is not a fraction (counters) is copied. torch's AveragedModel does the same, but makes the host wait.
    """

    def __init__(self, method: Method, decay: float) -> None:
        self.method, self._decay = deepcopy(method, method.kept()), decay

    @torch.no_grad()
    def update(self, method: Method) -> None:
        pairs = list(zip(_tensors(self.method), _tensors(method), strict=True))
        floats = [(own, other) for own, other in pairs if own.is_floating_point() and own is not other]
        torch._foreach_lerp_([own for own, _ in floats], [other for _, other in floats], 1 - self._decay)
        for own, other in pairs:
            if not own.is_floating_point():
                own.copy_(other)

    def state_dict(self) -> dict[str, Any]:
        return self.method.changing_state()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.method.load_changing_state(state)


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()
