"""Linear evaluation of frozen features: a grid of heads, trained in batched products.

Protocol of the comprehensive study (Audibert, Gauffre, Amini, arXiv 2412.00101): for each combination of
learning rate and weight decay several linear heads are trained with AdamW and binary cross-entropy; for every label
the combination with the best validation F1 (threshold 0.5) is taken; the probabilities of the heads are averaged. The
study takes one combination a label, by the F1 of these averages (`choose="ensemble"`); by default each head takes its
own (`"head"`). Unlike the released code, which includes two untrained heads in the average, only trained heads count,
and a training set smaller than a batch is one batch rather than none.

The three heads of a combination differ in their initial weights and in the order of their rows: heads with the same
batches would share the noise of large learning rates, which averaging could not remove. The combinations, of which
only one is used for each label, share both, so that a step of all combinations is one matrix product forward and one
backward.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch.optim.adam import adam

from mlcl.evaluation.metrics import UNKNOWN, MetricsError

BATCHES_PER_COPY = 16
"""Rows of this many batches are copied at once."""


@dataclass(frozen=True)
class Grid:
    """The heads to train: `heads` for each combination of learning rate and weight decay."""

    learning_rates: Sequence[float] = (1.0, 0.1)
    weight_decays: Sequence[float] = (1.0, 0.1, 0.01, 1e-4)
    heads: int = 3
    epochs: int = 40
    batch_size: int = 256
    choose: Literal["head", "ensemble"] = "head"
    """By whose F1 a label's combination is chosen: each head's own, or that of the heads' mean probabilities, which
    gives all heads the same one."""

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
        """All fields as tensors, ready to be stored."""
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
    heads_at_once: int | None = None,
) -> LinearHeads:
    """Trains the grid on features (N, D) and labels (N, L), and chooses combinations on the validation rows.

    Labels are 0 or 1, or -1 where they are unknown: such a row takes no part in the heads of that label, neither in
    training (the loss is the mean over the known cells of a batch) nor in the choice.

    `generator` (on the CPU) draws the initial weights and the orders of the rows. `heads_at_once`: how many heads of a
    combination are trained in one product; the result does not depend on it but for rounding. By default all on a GPU,
    which one head does not fill, and one on a CPU, where its arrays stay in the cache.

    From this call on, denormal numbers are flushed to zero in this process: saturated heads produce them, and they make
    a CPU ten times slower.
    """
    torch.set_flush_denormal(True)
    weights, biases = _initial_parameters(features, labels.shape[1], grid.heads, generator)
    orders = torch.stack([_row_orders(len(features), grid, generator) for _ in range(grid.epochs)], dim=1)
    # All orders are copied to the device at once, so that no step waits for the host.
    orders = orders.to(features.device)
    group = heads_at_once or (grid.heads if features.is_cuda else 1)
    trained = [
        _train(features, labels, grid, *parts)
        for parts in zip(*(part.split(group) for part in (weights, biases, orders)), strict=True)
    ]
    weights, biases = (torch.cat(parts) for parts in zip(*trained, strict=True))
    choose = _best_of_ensemble if grid.choose == "ensemble" else _best_of_each_head
    return _final_heads(weights, biases, choose(weights, biases, val_features, val_labels))


def _initial_parameters(
    features: torch.Tensor, labels: int, heads: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights (H, L, D) and biases (H, L, 1), uniform within 1 / sqrt(D)."""
    width = features.shape[1]
    start = torch.rand(heads, width + 1, labels, generator=generator) * 2 - 1
    weights, biases = (start.mT / math.sqrt(width)).to(features).split([width, 1], dim=2)
    return weights, biases


def _row_orders(rows: int, grid: Grid, generator: torch.Generator) -> torch.Tensor:
    """(H, N): the order of the rows in one epoch, for each head."""
    return torch.stack([torch.randperm(rows, generator=generator) for _ in range(grid.heads)])


def _train(
    features: torch.Tensor,
    labels: torch.Tensor,
    grid: Grid,
    weights: torch.Tensor,
    biases: torch.Tensor,
    orders: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Trained weights (H, C, L, D) and biases (H, C, L).

    From initial weights (H, L, D) and biases (H, L, 1), with the rows in the orders (H, E, N).
    """
    heads = HeadStack(weights, biases, grid)
    partly_unknown = bool((labels == UNKNOWN).any())
    steps = grid.epochs * math.ceil(len(features) / grid.batch_size)
    for step, (inputs, truth) in enumerate(_batches(features, labels, orders, grid.batch_size)):
        known = truth != UNKNOWN if partly_unknown else None
        heads.step(inputs, truth, decay_to_zero=1 - step / steps, known=known)
    return heads.parameters()


def _batches(
    features: torch.Tensor, labels: torch.Tensor, orders: torch.Tensor, batch_size: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Inputs (H, B, D) and labels (H, L, B) in the orders (H, E, N); overwritten by the next batches.

    The rows of several batches are copied at once, which is faster than batch by batch.
    """
    chunk = min(BATCHES_PER_COPY * batch_size, len(features))
    inputs = features.new_empty(len(orders) * chunk, features.shape[1])
    for epoch in orders.unbind(dim=1):
        for rows in epoch.split(chunk, dim=1):
            gathered = inputs[: rows.numel()]
            torch.index_select(features, 0, rows.reshape(-1), out=gathered)
            truth = labels[rows].to(features.dtype).mT.contiguous()
            yield from zip(
                gathered.unflatten(0, rows.shape).split(batch_size, dim=1),
                truth.split(batch_size, dim=2),
                strict=True,
            )


class HeadStack:
    """Heads of every combination, trained by AdamW: weights (H, C L, D), the L rows of a combination in a block.

    Adam's step is the learning rate times a term that does not depend on it. The weights are stored divided by the
    learning rate of their row, so that the step size (which decays to zero) is one number for all rows and one fused
    Adam updates them. Logits are multiplied by the learning rates. Weight decay differs between rows as well and is
    applied here.

    Steps write into preallocated arrays: new arrays of this size are unmapped pages, and mapping them costs a CPU half
    as much time as the products.
    """

    def __init__(self, weights: torch.Tensor, biases: torch.Tensor, grid: Grid) -> None:
        """Initial weights (H, L, D) and biases (H, L, 1), the same for all combinations."""
        self.labels = weights.shape[1]
        combinations = torch.tensor(grid.combinations, dtype=torch.float64, device=weights.device)
        rate, decay = combinations.to(weights.dtype).T.repeat_interleave(self.labels, dim=1)[..., None]
        self.learning_rate = rate
        self.rate_times_decay = rate * decay
        self.scaled = [part.repeat(1, len(combinations), 1) / rate for part in (weights, biases)]
        self.gradients = [torch.empty_like(part) for part in self.scaled]
        self.means = [torch.zeros_like(part) for part in self.scaled]
        self.squares = [torch.zeros_like(part) for part in self.scaled]
        self.steps = [torch.zeros((), device=weights.device) for _ in self.scaled]
        self._errors = weights.new_empty(len(weights), len(rate), grid.batch_size)

    def parameters(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Weights (H, C, L, D) and biases (H, C, L)."""
        weights, biases = (
            (part * self.learning_rate).unflatten(1, (-1, self.labels)) for part in self.scaled
        )
        return weights, biases.squeeze(3)

    @torch.no_grad()
    def step(
        self,
        inputs: torch.Tensor,
        truth: torch.Tensor,
        decay_to_zero: float,
        known: torch.Tensor | None = None,
    ) -> None:
        """One step of AdamW on the mean binary cross-entropy: inputs (H, B, D), truth (H, L, B).

        known (H, L, B): the cells that the mean is over; None for all.
        """
        weights, biases = self.scaled
        weight_gradient, bias_gradient = self.gradients
        errors = self._errors[..., : inputs.shape[1]]
        torch.bmm(weights, inputs.mT, out=errors)
        errors.add_(biases).mul_(self.learning_rate).sigmoid_()
        of_labels = errors.unflatten(1, (-1, self.labels)).sub_(truth[:, None])
        if known is None:
            of_labels.div_(truth[0].numel())
        else:
            number = known.sum(dim=(1, 2), keepdim=True).clamp(min=1)
            of_labels.mul_(known[:, None]).div_(number[:, None])
        torch.bmm(errors, inputs, out=weight_gradient)
        torch.sum(errors, dim=2, keepdim=True, out=bias_gradient)
        weights.addcmul_(weights, self.rate_times_decay, value=-decay_to_zero)
        adam(
            self.scaled,
            self.gradients,
            self.means,
            self.squares,
            max_exp_avg_sqs=[],
            state_steps=self.steps,
            fused=True,
            amsgrad=False,
            maximize=False,
            beta1=0.9,
            beta2=0.999,
            eps=1e-8,
            weight_decay=0.0,
            lr=decay_to_zero,
        )


def _best_of_each_head(
    weights: torch.Tensor, biases: torch.Tensor, features: torch.Tensor, truth: torch.Tensor
) -> torch.Tensor:
    """(H, L): for each head and label the combination with the best F1; the first of equals.

    weights (H, C, L, D), biases (H, C, L); features (N, D) and truth (N, L), as in `fit`, of the validation rows.
    """
    heads = zip(weights, biases, strict=True)
    return torch.stack([_f1(_logits(*head, features) > 0, truth).argmax(dim=0) for head in heads])


def _best_of_ensemble(
    weights: torch.Tensor, biases: torch.Tensor, features: torch.Tensor, truth: torch.Tensor
) -> torch.Tensor:
    """(H, L), the same for all heads: the combination with the best F1 of their mean probabilities."""
    heads = zip(weights, biases, strict=True)
    total = torch.zeros(len(features), *biases.shape[1:]).to(features)
    for head in heads:
        total += _logits(*head, features).sigmoid_()
    chosen = _f1(total / len(weights) > 0.5, truth).argmax(dim=0)
    return chosen.repeat(len(weights), 1)


def _logits(weight: torch.Tensor, bias: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """(N, C, L) of one head: weight (C, L, D), bias (C, L)."""
    return torch.addmm(bias.flatten(), features, weight.flatten(end_dim=1).T).unflatten(1, bias.shape)


def _f1(predicted: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """(C, L): F1 of predictions (N, C, L) of the truth (N, L) where it is known; 0 where neither has a positive."""
    predicted = predicted & (truth != UNKNOWN)[:, None, :]
    truth = (truth == 1)[:, None, :]
    hits = (predicted & truth).sum(dim=0)
    return 2 * hits / (predicted.sum(dim=0) + truth.sum(dim=0)).clamp(min=1)


def _final_heads(weights: torch.Tensor, biases: torch.Tensor, chosen: torch.Tensor) -> LinearHeads:
    """Of each head the rows of the combinations that its labels chose, (H, L)."""
    label = torch.arange(chosen.shape[1], device=chosen.device)
    return LinearHeads(
        torch.stack([weight[rows, label].T for weight, rows in zip(weights, chosen, strict=True)]),
        torch.stack([bias[rows, label] for bias, rows in zip(biases, chosen, strict=True)]),
        chosen,
    )
