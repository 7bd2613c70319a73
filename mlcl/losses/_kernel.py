"""The one kernel of all contrastive losses: a weighted cross-entropy between pair weights and similarities.

    s_ik = z_i . z_k / temperature        p_ik = v_k exp s_ik / sum_a v_a exp s_ia        (a != i)
    L    = 1/N sum_i sum_k - W_ik (s_ik - log sum_a v_a exp s_ia)

Anchors i are the batch, the prototypes, or both; references k are the batch (or keys and a queue in its
stead), the prototypes, or both. W depends on labels alone, v is 1 but for the batch's `batch_weight`.

The kernel goes through the anchors in tiles of rows. A row's normalisers need nothing of other rows, so a
tile is finished in one visit: similarities, weights, log-softmax, and the gradient, which is kept for the
backward pass. Nothing is computed twice, and no (n, m) matrix exists unless it fits one tile: small batches
are one tile, large ones take memory for their embeddings, their labels and one tile.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class TileWeights(Protocol):
    """W[start:stop] for anchors of one group ("batch" or "prototypes"), (stop - start, m)."""

    def __call__(self, group: str, start: int, stop: int) -> Tensor: ...


@dataclass(frozen=True)
class Problem:
    """What the kernel has to know beside the embeddings."""

    weights: TileWeights
    anchors: tuple[str, ...]
    references: tuple[str, ...]
    exclude_self: bool  # of a batch row among the batch; a prototype never meets itself
    temperature: float
    batch_weight: float  # of the batch's or given references in the denominator
    keep_positives: bool  # never push a positive away (REG)
    total_weight: Tensor | None  # N; None: the number of anchors that have a positive
    tile_elements: int
    needs_gradient: bool


class WeightedCrossEntropy(torch.autograd.Function):
    """(embeddings (B, D), references (Q, D) or None, prototypes (L, D) or None, problem) -> scalar L.

    Embeddings are given raw and normalised here; those of norm 0 stay 0.
    """

    @staticmethod
    def forward(
        ctx: Any, embeddings: Tensor, references: Tensor | None, prototypes: Tensor | None, problem: Problem
    ) -> Tensor:
        groups = {"batch": normalise(embeddings)}
        if prototypes is not None:
            groups["prototypes"] = normalise(prototypes)
        others = groups["batch"] if references is None else normalise(references)
        columns = [others if group == "batch" else groups[group] for group in problem.references]
        keys = torch.cat([c.directions for c in columns]) if len(columns) > 1 else columns[0].directions
        num_batch_keys = len(others.directions) if "batch" in problem.references else 0

        value = keys.new_zeros((), dtype=torch.float64)
        num_anchors = value
        key_gradient = torch.zeros_like(keys) if problem.needs_gradient else None
        gradients: dict[str, Tensor] = {}
        for group in problem.anchors:
            anchors = groups[group].directions
            gradient = torch.empty_like(anchors)
            for start, stop in tiles(len(anchors), len(keys), problem.tile_elements):
                rows = anchors[start:stop] / problem.temperature
                scores = rows @ keys.T
                weights = problem.weights(group, start, stop)
                tile = softmax_tile(
                    scores,
                    weights,
                    self_column=_self_column(problem, group, start, num_batch_keys),
                    weighted_columns=num_batch_keys if problem.batch_weight != 1 else 0,
                    batch_weight=problem.batch_weight,
                    keep_positives=problem.keep_positives,
                    needs_gradient=problem.needs_gradient,
                )
                value = value + tile.value
                if problem.total_weight is None:
                    num_anchors = num_anchors + (tile.mass > 0).sum()
                if key_gradient is not None:
                    assert tile.gradient is not None
                    torch.mm(tile.gradient, keys, out=gradient[start:stop])
                    key_gradient.addmm_(tile.gradient.T, rows)
            gradients[group] = gradient.div_(problem.temperature)

        total = num_anchors if problem.total_weight is None else problem.total_weight
        scale = 1 / total.clamp_min(1).to(keys.dtype)
        if key_gradient is not None:
            ctx.save_for_backward(
                *_input_gradients(
                    problem, groups, others, gradients, key_gradient, references is not None, scale
                )
            )
        ctx.present = (references is not None, prototypes is not None)
        return value.to(keys.dtype) * scale

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        saved = iter(ctx.saved_tensors)
        has_references, has_prototypes = ctx.present
        embeddings = next(saved) * grad_output
        references = next(saved) * grad_output if has_references else None
        prototypes = next(saved) * grad_output if has_prototypes else None
        return embeddings, references, prototypes, None


@dataclass(frozen=True)
class Normalised:
    """Unit vectors and the lengths they came with (1 for zero vectors, which stay zero)."""

    directions: Tensor
    lengths: Tensor

    def input_gradient(self, gradient: Tensor) -> Tensor:
        """Gradient on the raw vectors, given that on the directions: the part along them is lost."""
        along = (gradient * self.directions).sum(1, keepdim=True)
        return gradient.addcmul_(self.directions, along, value=-1).div_(self.lengths)


def normalise(vectors: Tensor) -> Normalised:
    lengths = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    lengths = lengths.masked_fill_(lengths == 0, 1)
    return Normalised(vectors / lengths, lengths)


def tiles(num_anchors: int, num_references: int, tile_elements: int) -> Iterator[tuple[int, int]]:
    """Row ranges whose (rows, num_references) matrix has at most `tile_elements` elements, or one row."""
    height = max(1, tile_elements // max(num_references, 1))
    for start in range(0, num_anchors, height):
        yield start, min(start + height, num_anchors)


@dataclass(frozen=True)
class TileResult:
    value: Tensor  # scalar, float64: the tile's share of N L
    mass: Tensor  # (t,) sum_k W_ik
    gradient: Tensor | None  # (t, m): d(N L) / d s_ik


def softmax_tile(
    scores: Tensor,
    weights: Tensor,
    *,
    self_column: int | None,
    weighted_columns: int,
    batch_weight: float,
    keep_positives: bool,
    needs_gradient: bool,
) -> TileResult:
    """Weighted cross-entropy of t rows, and its gradient with respect to the scores (t, m).

    Row i must not see column `self_column` + i; the first `weighted_columns` columns count `batch_weight`
    times in the denominator. The mask is the lowest finite number, set before the maximum is taken: a row
    without any allowed reference then has zero weights, value and gradient instead of NaN.
    """
    if self_column is not None:
        scores.diagonal(self_column).fill_(torch.finfo(scores.dtype).min)
    mass = weights.sum(1)
    correction: Tensor | float = 0.0
    if weighted_columns:
        bias = torch.tensor(batch_weight, dtype=scores.dtype).log().item()
        biased = torch.cat([scores[:, :weighted_columns] + bias, scores[:, weighted_columns:]], 1)
        correction = weights[:, :weighted_columns].sum(dtype=torch.float64) * bias
        log_p = torch.log_softmax(biased, 1)
    else:
        log_p = torch.log_softmax(scores, 1)
    value = correction - (weights * log_p).sum(1).sum(dtype=torch.float64)
    if not (needs_gradient or keep_positives):
        return TileResult(value, mass, None)
    p = log_p.exp_()
    if not keep_positives:
        return TileResult(value, mass, p.mul_(mass[:, None]).sub_(weights))
    excess = torch.where(weights > 0, p - weights, 0).clamp_min_(0)
    value = value - (excess * scores).sum(1).sum(dtype=torch.float64)
    return TileResult(value, mass, p.mul_(mass[:, None]).sub_(weights).sub_(excess))


def _self_column(problem: Problem, group: str, start: int, num_batch_keys: int) -> int | None:
    if group not in problem.references:
        return None
    if group == "prototypes":
        return num_batch_keys + start
    return start if problem.exclude_self else None


def _input_gradients(
    problem: Problem,
    groups: dict[str, Normalised],
    others: Normalised,
    gradients: dict[str, Tensor],
    key_gradient: Tensor,
    has_references: bool,
    scale: Tensor,
) -> list[Tensor]:
    """Gradients on the raw embeddings, on the references and on the prototypes, in this order."""
    key_gradient.mul_(scale)
    totals = {name: gradient.mul_(scale) for name, gradient in gradients.items()}
    first = 0
    for group in problem.references:
        owner = "references" if group == "batch" and has_references else group
        width = len(others.directions) if group == "batch" else len(groups[group].directions)
        share = key_gradient[first : first + width]
        totals[owner] = totals[owner].add_(share) if owner in totals else share
        first += width
    owners = {**groups, **({"references": others} if has_references else {})}
    return [
        owners[name].input_gradient(totals[name])
        if name in totals
        else torch.zeros_like(owners[name].directions)
        for name in ("batch", "references", "prototypes")
        if name in owners
    ]
