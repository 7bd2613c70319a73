"""Linear evaluation of frozen features: a grid of heads, all trained at once.

Protocol of the comprehensive study (Audibert, Gauffre, Amini, arXiv 2412.00101): for each combination of
learning rate and weight decay several linear heads are trained with AdamW and binary cross-entropy; each head
takes, for every label, the combination with the best validation F1 (threshold 0.5); the probabilities of the
heads are averaged. Unlike the released code, which averages in two heads that it never trains, only trained
heads count, and a training set smaller than a batch is one batch rather than none.

The three heads of a combination differ in their initial weights and in the order of their rows, as they would one
at a time: heads that share their batches share the noise of large learning rates, which averaging then cannot
remove. The combinations, of which only one is taken for each label, share both. So a step is one batched matrix
product forward and one back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from mlcl.evaluation.metrics import MetricsError


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

    def state(self) -> dict[str, torch.Tensor]:
        """Everything there is to store, as tensors."""
        return {"weights": self.weights, "biases": self.biases, "chosen": self.chosen}

    @classmethod
    def from_state(cls, state: dict[str, torch.Tensor]) -> LinearHeads:
        """The inverse of `state`; raises MetricsError where a tensor is missing."""
        if missing := {"weights", "biases", "chosen"} - set(state):
            raise MetricsError(f"not the state of linear heads: {', '.join(sorted(missing))} missing")
        return cls(state["weights"], state["biases"], state["chosen"])


def fit(
    features: torch.Tensor,
    labels: torch.Tensor,
    val_features: torch.Tensor,
    val_labels: torch.Tensor,
    grid: Grid,
    generator: torch.Generator,
) -> LinearHeads:
    """Trains the grid on features (N, D) and labels (N, L), and chooses on the validation rows.

    `generator` (on the CPU) draws the initial weights and the orders of the rows. Denormal numbers are flushed
    to zero in the process from here on: saturated heads produce them, and they make a CPU ten times slower.
    """
    torch.set_flush_denormal(True)
    start = _initial(features, labels.shape[1], grid.heads, generator)
    stack = _HeadStack(start, grid, min(grid.batch_size, len(features)))
    # All orders go to the device in one copy: nothing waits for the host within the loop.
    batches = torch.cat([_epoch(len(features), grid, generator) for _ in range(grid.epochs)], dim=1)
    sizes = _batch_sizes(len(features), grid.batch_size) * grid.epochs
    for step, rows in enumerate(batches.to(features.device).split(sizes, dim=1)):
        stack.step(features, labels, rows, decay_to_zero=1 - step / len(sizes))
    return _choose(stack, val_features, val_labels, grid)


def _initial(features: torch.Tensor, labels: int, heads: int, generator: torch.Generator) -> torch.Tensor:
    """(H, D + 1, L) weights and, in the last row, biases, uniform within 1 / sqrt(D)."""
    start = torch.rand(heads, features.shape[1] + 1, labels, generator=generator) * 2 - 1
    return (start / math.sqrt(features.shape[1])).to(features)


def _epoch(rows: int, grid: Grid, generator: torch.Generator) -> torch.Tensor:
    """(H, N) an order of the rows for each head."""
    return torch.stack([torch.randperm(rows, generator=generator) for _ in range(grid.heads)])


def _batch_sizes(rows: int, batch_size: int) -> list[int]:
    return [min(batch_size, rows - start) for start in range(0, rows, batch_size)]


class _HeadStack:
    """All heads side by side under AdamW: parameters (H, D + 1, C L), the last row being the biases.

    Adam's step is its learning rate times a term that does not depend on it. So the stack holds the parameters
    divided by the learning rate of their column: what is left of it, the decay to zero, is one number for all
    columns, and one fused Adam updates them. Logits are multiplied by the learning rates; weight decay, which
    differs between columns, too, is applied here.

    A step writes to arrays that are there already: fresh ones of this size come as unmapped pages, which cost a
    CPU half as much as the products.
    """

    def __init__(self, start: torch.Tensor, grid: Grid, batch_size: int) -> None:
        """start (H, D + 1, L): initial weights and biases; those of different combinations are the same."""
        heads, rows, self.labels = start.shape
        combinations = torch.tensor(grid.combinations, dtype=torch.float64, device=start.device)
        rate, decay = combinations.to(start.dtype).T.repeat_interleave(self.labels, dim=1)
        self.learning_rate = rate
        self.rate_times_decay = rate * decay
        self.scaled = start.repeat(1, 1, len(combinations)) / rate
        self.gradient = torch.zeros_like(self.scaled)
        self.scaled.grad = self.gradient
        self.adam = torch.optim.Adam([self.scaled], fused=True)
        self._gathered = start.new_empty(heads * batch_size, rows - 1)
        self._inputs = start.new_ones(heads, batch_size, rows)
        self._errors = start.new_empty(heads, batch_size, len(rate))

    @property
    def parameters(self) -> torch.Tensor:
        return self.scaled * self.learning_rate

    @torch.no_grad()
    def step(
        self, features: torch.Tensor, labels: torch.Tensor, rows: torch.Tensor, decay_to_zero: float
    ) -> None:
        """One step of AdamW on the mean binary cross-entropy of each head, on its own rows: rows (H, B)."""
        batch = rows.shape[1]
        inputs, errors = self._inputs[:, :batch], self._errors[:, :batch]
        gathered = self._gathered[: rows.numel()]
        torch.index_select(features, 0, rows.reshape(-1), out=gathered)
        inputs[..., :-1] = gathered.view(*rows.shape, -1)
        truth = labels[rows].to(errors.dtype)
        _batched_product(inputs, self.scaled, errors)
        errors.mul_(self.learning_rate).sigmoid_()
        errors.unflatten(2, (-1, self.labels)).sub_(truth[:, :, None, :]).div_(batch * self.labels)
        _batched_product(inputs.transpose(1, 2), errors, self.gradient)
        self.scaled[:, :-1].mul_(1 - decay_to_zero * self.rate_times_decay)
        self.adam.param_groups[0]["lr"] = decay_to_zero
        self.adam.step()


def _batched_product(left: torch.Tensor, right: torch.Tensor, out: torch.Tensor) -> None:
    if left.is_cuda:
        torch.bmm(left, right, out=out)
        return
    for a, b, result in zip(left, right, out, strict=True):  # on a CPU each has all threads
        torch.mm(a, b, out=result)


def _choose(
    stack: _HeadStack, val_features: torch.Tensor, val_labels: torch.Tensor, grid: Grid
) -> LinearHeads:
    """For each head and label the combination with the best F1 on the validation rows; the first one of equals."""
    truth = val_labels.bool()[:, None, :]
    weights, biases, choices = [], [], []
    for head in stack.parameters:
        predicted = torch.addmm(head[-1], val_features, head[:-1]) > 0
        predicted = predicted.unflatten(1, (len(grid.combinations), stack.labels))
        hits = (predicted & truth).sum(dim=0)
        f1 = 2 * hits / (predicted.sum(dim=0) + truth.sum(dim=0)).clamp(min=1)
        chosen = f1.argmax(dim=0)
        by_combination = head.unflatten(1, (len(grid.combinations), stack.labels))
        final = by_combination.gather(1, chosen.expand(len(head), 1, -1)).squeeze(1)
        weights.append(final[:-1])
        biases.append(final[-1])
        choices.append(chosen)
    return LinearHeads(torch.stack(weights), torch.stack(biases), torch.stack(choices))
