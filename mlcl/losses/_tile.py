"""The softmax, value and gradient of one tile of scores, in torch; `_triton` is the same on CUDA."""

from __future__ import annotations

from dataclasses import dataclass
from math import log

import torch
from torch import Tensor


@dataclass
class TileOptions:
    """What the tile has to know of its columns."""

    self_column: int | None = None  # row i excludes column self_column + i, its pair with itself
    weighted_columns: int = 0  # the first columns, which count `column_weight` times in the denominator
    column_weight: float = 1.0
    never_push_positives: bool = False  # no gradient moves a positive away from its anchor (REG)


def torch_tile(scores: Tensor, weights: Tensor, options: TileOptions) -> tuple[Tensor, Tensor, Tensor]:
    """Weighted cross-entropy of t rows of scores (t, m), which it may overwrite, with weights (t, m).

    Returns the rows' share of N L (scalar, float64), their sums of weights (t,) and d(N L) / d scores (t, m).
    The excluded column gets the lowest finite score, not -inf, so that a row without any allowed reference has
    weights, value and gradient 0 instead of NaN.
    """
    if options.self_column is not None:
        scores.diagonal(options.self_column).fill_(torch.finfo(scores.dtype).min)
    mass = weights.sum(1, keepdim=True)
    bias = log(options.column_weight) if options.weighted_columns else 0.0
    log_p = _biased(scores, options.weighted_columns, bias).log_softmax(1)
    value = -(weights * log_p).sum(1).sum(dtype=torch.float64)
    if bias:  # the bias belongs into the denominator only
        value = value + bias * weights[:, : options.weighted_columns].sum(dtype=torch.float64)
    p = log_p.exp_()
    if not options.never_push_positives:
        return value, mass.squeeze(1), p.mul_(mass).sub_(weights)
    excess = (p - weights).clamp_min_(0).masked_fill_(weights == 0, 0)
    value = value - (excess * scores).sum(1).sum(dtype=torch.float64)
    return value, mass.squeeze(1), p.mul_(mass).sub_(weights).sub_(excess)


def _biased(scores: Tensor, columns: int, bias: float) -> Tensor:
    if not bias:
        return scores
    biased = scores.clone()
    biased[:, :columns] += bias
    return biased
