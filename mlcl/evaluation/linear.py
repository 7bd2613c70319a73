"""Linear evaluation of frozen features: a grid of heads, all trained at once.

Protocol of the comprehensive study (Audibert, Gauffre, Amini, arXiv 2412.00101): for each combination of
learning rate and weight decay several linear heads are trained with AdamW and binary cross-entropy; each head
takes, for every label, the combination with the best validation F1 (threshold 0.5); the probabilities of the
heads are averaged. Unlike the released code, which averages in two heads that it never trains, only trained
heads count, and a training set smaller than a batch is one batch rather than none.

The heads share their batches and differ in their initial weights, so that all of them are one matrix product.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch.nn import functional as F


@dataclass(frozen=True)
class Grid:
    """Which heads are trained: `heads` of each (learning rate, weight decay)."""

    learning_rates: Sequence[float] = (1.0, 0.1)
    weight_decays: Sequence[float] = (1.0, 0.1, 0.01, 1e-4)
    heads: int = 3
    epochs: int = 40
    batch_size: int = 256

    @property
    def combinations(self) -> list[tuple[float, float]]:
        return [(rate, decay) for rate in self.learning_rates for decay in self.weight_decays]


@dataclass(frozen=True)
class LinearHeads:
    """The final heads: weights (H, D, L) and biases (H, L); `chosen` (H, L) is the combination behind each label."""

    weights: torch.Tensor
    biases: torch.Tensor
    chosen: torch.Tensor

    def probabilities(self, features: torch.Tensor) -> torch.Tensor:
        """Features (N, D) -> probabilities (N, L), averaged over the heads."""
        logits = torch.einsum("nd,hdl->hnl", features, self.weights) + self.biases[:, None, :]
        return torch.sigmoid(logits).mean(dim=0)


def fit(
    features: torch.Tensor,
    labels: torch.Tensor,
    val_features: torch.Tensor,
    val_labels: torch.Tensor,
    grid: Grid,
    generator: torch.Generator,
) -> LinearHeads:
    """Trains the grid on features (N, D) and labels (N, L), and chooses on the validation rows.

    `generator` (on the CPU) draws the initial weights and the order of the batches. Denormal numbers are flushed
    to zero in the process from here on: saturated heads produce them, and they make a CPU ten times slower.
    """
    torch.set_flush_denormal(True)
    stack = _HeadStack.initial(features, labels.shape[1], grid, generator)
    batches = list(_batches(len(features), grid, generator))
    # All orders go to the device in one copy: nothing waits for the host within the loop.
    rows = torch.cat(batches).to(features.device)
    for step, batch in enumerate(rows.split([len(batch) for batch in batches])):
        stack.step(features, labels, batch, decay_to_zero=1 - step / len(batches))
    return _choose(stack, val_features, val_labels, grid)


def _batches(rows: int, grid: Grid, generator: torch.Generator) -> Iterator[torch.Tensor]:
    for _ in range(grid.epochs):
        yield from torch.randperm(rows, generator=generator).split(grid.batch_size)


@dataclass
class _HeadStack:
    """All heads side by side: parameters (D + 1, C H L), the last row being the biases, under AdamW.

    AdamW is written out because each column has a learning rate and a weight decay of its own. A step writes to
    arrays that are there already: fresh ones of this size come as unmapped pages, which cost a CPU nearly as
    much as the products.
    """

    parameters: torch.Tensor
    learning_rate: torch.Tensor
    weight_decay: torch.Tensor
    labels: int
    batch_size: int
    steps: int = 0
    first_moment: torch.Tensor = field(init=False)
    second_moment: torch.Tensor = field(init=False)
    _inputs: torch.Tensor = field(init=False)
    _errors: torch.Tensor = field(init=False)
    _gradient: torch.Tensor = field(init=False)
    _denominator: torch.Tensor = field(init=False)

    BETAS = (0.9, 0.999)
    EPS = 1e-8

    def __post_init__(self) -> None:
        rows, columns = self.parameters.shape
        self.first_moment = torch.zeros_like(self.parameters)
        self.second_moment = torch.zeros_like(self.parameters)
        self._inputs = self.parameters.new_ones(self.batch_size, rows)
        self._errors = self.parameters.new_empty(self.batch_size, columns)
        self._gradient = torch.empty_like(self.parameters)
        self._denominator = torch.empty_like(self.parameters)

    @classmethod
    def initial(
        cls, features: torch.Tensor, labels: int, grid: Grid, generator: torch.Generator
    ) -> _HeadStack:
        combinations = len(grid.combinations)
        bound = 1 / math.sqrt(features.shape[1])
        # The heads of different combinations start from the same weights: only the combination differs.
        start = torch.rand(features.shape[1] + 1, 1, grid.heads, labels, generator=generator) * 2 - 1
        start = (start * bound).expand(-1, combinations, -1, -1).reshape(features.shape[1] + 1, -1)
        per_column = torch.tensor(grid.combinations).repeat_interleave(grid.heads * labels, dim=0)
        rate, decay = per_column.to(features).T.contiguous()
        return cls(start.to(features), rate, decay, labels, min(grid.batch_size, len(features)))

    def step(
        self, features: torch.Tensor, labels: torch.Tensor, rows: torch.Tensor, decay_to_zero: float
    ) -> None:
        """One step of AdamW on the mean binary cross-entropy of each head on these rows."""
        inputs, errors = self._inputs[: len(rows)], self._errors[: len(rows)]
        inputs[:, :-1] = features[rows]
        truth = labels[rows].to(errors.dtype)
        torch.mm(inputs, self.parameters, out=errors).sigmoid_()
        errors.view(len(rows), -1, self.labels).sub_(truth[:, None, :]).div_(truth.numel())
        torch.mm(inputs.T, errors, out=self._gradient)
        self._adamw(self.learning_rate * decay_to_zero)

    def _adamw(self, rate: torch.Tensor) -> None:
        self.steps += 1
        momentum, decay = self.BETAS
        self.first_moment.lerp_(self._gradient, 1 - momentum)
        self.second_moment.mul_(decay).addcmul_(self._gradient, self._gradient, value=1 - decay)
        scale = math.sqrt(1 - decay**self.steps) / (1 - momentum**self.steps)
        torch.sqrt(self.second_moment, out=self._denominator)
        self._denominator.add_(self.EPS * math.sqrt(1 - decay**self.steps))
        self.parameters[:-1].mul_(1 - rate * self.weight_decay)
        change = torch.mul(self.first_moment, rate * scale, out=self._gradient)
        self.parameters.addcdiv_(change, self._denominator, value=-1)


def _with_one(features: torch.Tensor) -> torch.Tensor:
    return F.pad(features, (0, 1), value=1.0)


def _choose(
    stack: _HeadStack, val_features: torch.Tensor, val_labels: torch.Tensor, grid: Grid
) -> LinearHeads:
    """For each head and label the combination with the best F1 on the validation rows; the first one of equals."""
    predicted = (_with_one(val_features) @ stack.parameters) > 0
    predicted = predicted.view(len(val_features), len(grid.combinations), grid.heads, -1)
    truth = val_labels.bool()[:, None, None, :]
    hits = (predicted & truth).sum(dim=0)
    f1 = 2 * hits / (predicted.sum(dim=0) + truth.sum(dim=0)).clamp(min=1)
    chosen = f1.argmax(dim=0)
    by_combination = stack.parameters.view(-1, len(grid.combinations), grid.heads, stack.labels)
    index = chosen[None, None].expand(len(by_combination), 1, -1, -1)
    final = by_combination.gather(1, index).squeeze(1)
    return LinearHeads(final[:-1].transpose(0, 1).contiguous(), final[-1], chosen)
