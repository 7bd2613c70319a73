"""Everything between the scores and weights of one tile and its gradient: the inner loop of all losses."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from math import log

import torch
from torch import Tensor


@dataclass
class TileOptions:
    """What sets the tile's rows and columns apart."""

    self_column: int | None = None  # row i must not see column self_column + i
    weighted_columns: int = 0  # so many first columns count `column_weight` times in the denominator
    column_weight: float = 1.0
    keep_positives: bool = False  # never push a positive away (REG)


def softmax_tile(scores: Tensor, weights: Tensor, options: TileOptions) -> tuple[Tensor, Tensor, Tensor]:
    """Weighted cross-entropy of t rows of scores (t, m), which it may overwrite, with weights (t, m).

    Returns the rows' share of N L (scalar, float64), their sums of weights (t,) and d(N L) / d scores (t, m).
    On CUDA it is one Triton program a row (`_triton`), elsewhere torch.
    """
    if scores.is_cuda and scores.dtype == torch.float32 and find_spec("triton"):
        from mlcl.losses._triton import triton_tile

        return triton_tile(scores, weights, options)
    return torch_tile(scores, weights, options)


def torch_tile(scores: Tensor, weights: Tensor, options: TileOptions) -> tuple[Tensor, Tensor, Tensor]:
    """`softmax_tile` in torch.

    The mask is the lowest finite number, set before the maximum is taken: a row without any allowed
    reference then has zero weights, value and gradient instead of NaN.
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
    if not options.keep_positives:
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
