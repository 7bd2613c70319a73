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
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mlcl.losses._distributed import Ranks
from mlcl.losses._tile import TileOptions, torch_tile


@dataclass
class Problem:
    """What the kernel has to know beside the embeddings."""

    weights: Callable[[str, int, int], Tensor]  # W (stop - start, m) for anchors (group, start, stop)
    anchors: tuple[str, ...]  # groups: "batch", "prototypes"
    references: tuple[str, ...]
    exclude_self: bool  # of a batch row among the batch; a prototype never meets itself
    temperature: float
    batch_weight: float  # v of the batch's, or given, references
    never_push_positives: bool  # no gradient moves a positive away from its anchor (REG)
    total_weight: Tensor | float | None  # N; None: the number of anchors that have a positive
    prototype_anchors: int | None  # how many of the prototypes, the first, are anchors; None: all
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
        sides = Sides(problem, {name: normalised.directions for name, normalised in inputs.items()})
        value, positive_anchors = sum_over_tiles(problem, sides)

        if problem.total_weight is None:
            total = ranks.sum_(positive_anchors).clamp_min(1)
        else:
            total = total_weight(problem.total_weight, value).clamp_min(1)
        if problem.needs_gradient:
            gradients = sides.gradients_of_own_rows()
            scale = (1 / total).to(embeddings.dtype)
            ctx.save_for_backward(*(inputs[name].input_gradient(gradients[name], scale) for name in inputs))
        ctx.names = list(inputs)
        return (ranks.sum_(value) / total).to(embeddings.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        saved = dict(zip(ctx.names, ctx.saved_tensors, strict=True))
        gradients = (
            saved[name] * grad_output if name in saved else None
            for name in ("batch", "references", "prototypes")
        )
        return (*gradients, None)


class Sides:
    """The unit vectors of both sides by name, the references in one matrix, and room for their gradients."""

    def __init__(self, problem: Problem, vectors: dict[str, Tensor]) -> None:
        self.ranks = problem.ranks
        self.vectors = {**vectors, "batch": self.ranks.gather(vectors["batch"])}
        stand_in = "references" if "references" in vectors else "batch"
        names = [stand_in if group == "batch" else group for group in problem.references]
        self.keys = torch.cat([self.vectors[n] for n in names]) if len(names) > 1 else self.vectors[names[0]]
        self.batch_columns = len(self.vectors[stand_in]) if "batch" in problem.references else 0
        if problem.needs_gradient:
            self.key_gradient = torch.zeros_like(self.keys)
            parts = self.key_gradient.split([len(self.vectors[name]) for name in names])
            views = dict(zip(names, parts, strict=True))
            self.others = {n: torch.zeros_like(v) for n, v in self.vectors.items() if n not in views}
            self.gradients = {**views, **self.others}

    def gradients_of_own_rows(self) -> dict[str, Tensor]:
        """Summed over ranks; the batch's are this rank's rows, scaled for DDP, which averages over ranks."""
        for buffer in (self.key_gradient, *self.others.values()):
            self.ranks.sum_(buffer)
        own = self.gradients["batch"][self.ranks.start : self.ranks.stop]
        return {**self.gradients, "batch": own * self.ranks.size if self.ranks.size > 1 else own}


def sum_over_tiles(problem: Problem, sides: Sides) -> tuple[Tensor, Tensor]:
    """N L and the number of anchors that have a positive, of this rank's anchors; adds up the gradients."""
    value, positive_anchors = sides.keys.new_zeros(2, dtype=torch.float64).unbind()
    for group in problem.anchors:
        vectors = sides.vectors[group]
        if group == "prototypes" and problem.prototype_anchors is not None:
            vectors = vectors[: problem.prototype_anchors]
        first, last = sides.ranks.range_of(group, len(vectors))
        for start, stop in tiles(first, last, len(sides.keys), problem.tile_elements):
            anchors = vectors[start:stop] / problem.temperature
            weights = problem.weights(group, start, stop)
            options = tile_options(problem, sides, group, start)
            tile_value, mass, gradient = softmax_tile(anchors @ sides.keys.T, weights, options)
            value = value + tile_value
            if problem.total_weight is None:
                positive_anchors = positive_anchors + mass.count_nonzero()
            if problem.needs_gradient:
                sides.gradients[group][start:stop].addmm_(gradient, sides.keys, alpha=1 / problem.temperature)
                sides.key_gradient.addmm_(gradient.T, anchors)
    return value, positive_anchors


def total_weight(weight: Tensor | float, like: Tensor) -> Tensor:
    """N as a tensor of the value's type and device, without a copy from the host, for which that would wait."""
    return weight.to(like.dtype) if isinstance(weight, Tensor) else like.new_full((), weight)


def softmax_tile(scores: Tensor, weights: Tensor, options: TileOptions) -> tuple[Tensor, Tensor, Tensor]:
    """`_tile.torch_tile`, or its Triton form for float32 on CUDA."""
    if scores.is_cuda and scores.dtype == torch.float32 and find_spec("triton"):
        from mlcl.losses._triton import triton_tile

        return triton_tile(scores, weights, options)
    return torch_tile(scores, weights, options)


def tile_options(problem: Problem, sides: Sides, group: str, start: int) -> TileOptions:
    meets_itself = group in problem.references and (group == "prototypes" or problem.exclude_self)
    first_column = sides.batch_columns if group == "prototypes" else 0
    return TileOptions(
        self_column=first_column + start if meets_itself else None,
        weighted_columns=sides.batch_columns if problem.batch_weight != 1 else 0,
        column_weight=problem.batch_weight,
        never_push_positives=problem.never_push_positives,
    )


@dataclass
class Normalised:
    """Unit vectors and the lengths they came with (1 for zero vectors, which stay zero)."""

    directions: Tensor
    lengths: Tensor

    def input_gradient(self, gradient: Tensor, scale: Tensor) -> Tensor:
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
