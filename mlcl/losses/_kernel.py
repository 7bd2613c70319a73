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

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from math import log
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mlcl.losses._distributed import Ranks


@dataclass
class Problem:
    """What the kernel has to know beside the embeddings."""

    weights: Callable[[str, int, int], Tensor]  # W (stop - start, m) for anchors (group, start, stop)
    anchors: tuple[str, ...]  # groups: "batch", "prototypes"
    references: tuple[str, ...]
    exclude_self: bool  # of a batch row among the batch; a prototype never meets itself
    temperature: float
    batch_weight: float  # v of the batch's, or given, references
    keep_positives: bool  # never push a positive away (REG)
    total_weight: float | None  # N; None: the number of anchors that have a positive
    tile_elements: int
    needs_gradient: bool
    ranks: Ranks


class WeightedCrossEntropy(torch.autograd.Function):
    """(embeddings (B, D), references (Q, D) or None, prototypes (L, D) or None, problem) -> scalar L.

    Embeddings are given raw and normalised here; those of norm 0 stay 0.
    """

    @staticmethod
    def forward(
        ctx: Any, embeddings: Tensor, references: Tensor | None, prototypes: Tensor | None, problem: Problem
    ) -> Tensor:
        ranks = problem.ranks
        raw = {"batch": embeddings, "references": references, "prototypes": prototypes}
        inputs = {name: normalise(vectors) for name, vectors in raw.items() if vectors is not None}
        vectors = {name: normalised.directions for name, normalised in inputs.items()}
        vectors["batch"] = ranks.gather(vectors["batch"])
        stand_in = "batch" if references is None else "references"
        columns = [stand_in if group == "batch" else group for group in problem.references]
        keys = torch.cat([vectors[name] for name in columns]) if len(columns) > 1 else vectors[columns[0]]
        batch_columns = len(vectors[stand_in]) if "batch" in problem.references else 0

        gradients, key_gradient = _gradient_buffers(problem, vectors, columns, keys)
        value, positive_anchors = keys.new_zeros(2, dtype=torch.float64).unbind()
        for group in problem.anchors:
            first, last = (ranks.start, ranks.stop) if group == "batch" else ranks.share(len(vectors[group]))
            for start, stop in tiles(first, last, len(keys), problem.tile_elements):
                anchors = vectors[group][start:stop] / problem.temperature
                weights = problem.weights(group, start, stop)
                tile_value, mass, gradient = softmax_tile(
                    anchors @ keys.T,
                    weights,
                    self_column=_self_column(problem, group, start, batch_columns),
                    weighted_columns=batch_columns if problem.batch_weight != 1 else 0,
                    batch_weight=problem.batch_weight,
                    keep_positives=problem.keep_positives,
                )
                value = value + tile_value
                if problem.total_weight is None:
                    positive_anchors = positive_anchors + mass.count_nonzero()
                if key_gradient is not None:
                    gradients[group][start:stop].addmm_(gradient, keys, alpha=1 / problem.temperature)
                    key_gradient.addmm_(gradient.T, anchors)

        total: Tensor | float = max(problem.total_weight or 0, 1)
        if problem.total_weight is None:
            total = ranks.sum_(positive_anchors).clamp_min(1).to(keys.dtype)
        if key_gradient is not None:
            for buffer in (key_gradient, *(g for name, g in gradients.items() if name not in columns)):
                ranks.sum_(buffer)
            gradients["batch"] = gradients["batch"][ranks.start : ranks.stop]
            scale = {"batch": ranks.size / total}  # DDP averages over ranks
            ctx.save_for_backward(
                *(inputs[name].input_gradient(gradients[name], scale.get(name, 1 / total)) for name in inputs)
            )
        ctx.names = list(inputs)
        return (ranks.sum_(value) / total).to(keys.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        saved = dict(zip(ctx.names, ctx.saved_tensors, strict=True))
        found = (
            saved[name] * grad_output if name in saved else None
            for name in ("batch", "references", "prototypes")
        )
        return (*found, None)


@dataclass
class Normalised:
    """Unit vectors and the lengths they came with (1 for zero vectors, which stay zero)."""

    directions: Tensor
    lengths: Tensor

    def input_gradient(self, gradient: Tensor, scale: Tensor | float) -> Tensor:
        """Scaled gradient on the raw vectors, given that on the directions: the part along them is lost."""
        along = (gradient * self.directions).sum(1, keepdim=True)
        return torch.addcmul(gradient, self.directions, along, value=-1).mul_(scale / self.lengths)


def normalise(vectors: Tensor) -> Normalised:
    lengths = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    lengths = lengths.masked_fill_(lengths == 0, 1)
    return Normalised(vectors / lengths, lengths)


def tiles(first: int, last: int, width: int, tile_elements: int) -> Iterator[tuple[int, int]]:
    """Ranges of rows from first to last, each of at most `tile_elements` / `width` rows, or one."""
    height = max(1, tile_elements // max(width, 1))
    for start in range(first, last, height):
        yield start, min(start + height, last)


def softmax_tile(
    scores: Tensor,
    weights: Tensor,
    *,
    self_column: int | None,
    weighted_columns: int,
    batch_weight: float,
    keep_positives: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Weighted cross-entropy of t rows of scores (t, m), which it may overwrite.

    Returns the rows' share of N L (scalar), their sums of weights (t,) and d(N L) / d scores (t, m).
    Row i must not see column `self_column` + i; the first `weighted_columns` columns count `batch_weight`
    times in the denominator. The mask is the lowest finite number, set before the maximum is taken: a row
    without any allowed reference then has zero weights, value and gradient instead of NaN.
    """
    if scores.is_cuda and scores.dtype == torch.float32 and find_spec("triton"):
        from mlcl.losses._triton import softmax_tile as tile
    else:
        tile = torch_tile
    return tile(
        scores,
        weights,
        self_column=self_column,
        weighted_columns=weighted_columns,
        batch_weight=batch_weight,
        keep_positives=keep_positives,
    )


def torch_tile(
    scores: Tensor,
    weights: Tensor,
    *,
    self_column: int | None,
    weighted_columns: int,
    batch_weight: float,
    keep_positives: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """`softmax_tile` in torch."""
    if self_column is not None:
        scores.diagonal(self_column).fill_(torch.finfo(scores.dtype).min)
    mass = weights.sum(1, keepdim=True)
    value: Tensor | float = 0.0
    log_p = scores
    if weighted_columns:
        bias = log(batch_weight)
        log_p = scores.clone() if keep_positives else scores
        log_p[:, :weighted_columns] += bias
        value = value + weights[:, :weighted_columns].sum(dtype=torch.float64) * bias
    log_p = log_p.log_softmax(1)
    value = value - (weights * log_p).sum(1).sum(dtype=torch.float64)
    p = log_p.exp_()
    if not keep_positives:
        return value, mass, p.mul_(mass).sub_(weights)
    excess = (p - weights).clamp_min_(0).masked_fill_(weights == 0, 0)
    value = value - (excess * scores).sum(1).sum(dtype=torch.float64)
    return value, mass, p.mul_(mass).sub_(weights).sub_(excess)


def _self_column(problem: Problem, group: str, start: int, batch_columns: int) -> int | None:
    """The column in which the tile's first anchor meets itself."""
    if group not in problem.references or (group == "batch" and not problem.exclude_self):
        return None
    return batch_columns + start if group == "prototypes" else start


def _gradient_buffers(
    problem: Problem, vectors: dict[str, Tensor], columns: list[str], keys: Tensor
) -> tuple[dict[str, Tensor], Tensor | None]:
    """Zeros for each group of vectors, and the whole of which the keys' are views."""
    if not problem.needs_gradient:
        return {}, None
    whole = torch.zeros_like(keys)
    views = dict(zip(columns, whole.split([len(vectors[name]) for name in columns]), strict=True))
    return {name: views[name] if name in views else torch.zeros_like(v) for name, v in vectors.items()}, whole
