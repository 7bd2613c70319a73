"""The kernel's tile as one Triton program a row: the CUDA form of `_tile.softmax_tile`.

The matrix products around it stay with the vendor's library. What is fused is everything between scores and
weights on the one side and the gradient on the other: torch goes about ten times over the (t, m) tile, this
twice (once for the maximum and the sum, once for value and gradient, which overwrites the scores).
"""

from __future__ import annotations

from math import log
from typing import TYPE_CHECKING

import torch
import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]
from torch import Tensor

if TYPE_CHECKING:
    from mlcl.losses._tile import TileOptions

_BLOCK = 1024
_NOWHERE = -(2**30)  # a self column that no row meets
_LOWEST = tl.constexpr(-1.0e30)  # masks by a finite number, so that masked rows give 0 and not NaN


def triton_tile(scores: Tensor, weights: Tensor, options: TileOptions) -> tuple[Tensor, Tensor, Tensor]:
    """See `_tile.softmax_tile`; overwrites the scores."""
    scores, weights = scores.contiguous(), weights.contiguous()
    rows, width = scores.shape
    values, masses = scores.new_zeros(rows), scores.new_zeros(rows)
    if rows and width:
        _row[(rows,)](
            scores,
            weights,
            values,
            masses,
            width,
            _NOWHERE if options.self_column is None else options.self_column,
            options.weighted_columns,
            log(options.column_weight),
            KEEP_POSITIVES=options.keep_positives,
            BLOCK=min(_BLOCK, triton.next_power_of_2(width)),
        )
    return values.sum(dtype=torch.float64), masses, scores


@triton.jit
def _row(  # type: ignore[no-untyped-def]
    scores,
    weights,
    values,
    masses,
    width,
    self_column,
    weighted_columns,
    log_weight,
    KEEP_POSITIVES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    scores += row * width
    weights += row * width
    itself = self_column + row
    lanes = tl.arange(0, BLOCK)

    highest = tl.full([BLOCK], _LOWEST, tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    mass = tl.zeros([BLOCK], tl.float32)
    for start in range(0, width, BLOCK):
        column = start + lanes
        score = tl.load(scores + column, mask=column < width, other=_LOWEST)
        mass += tl.load(weights + column, mask=column < width, other=0.0)
        score = tl.where(
            column == itself, _LOWEST, score + tl.where(column < weighted_columns, log_weight, 0.0)
        )
        raised = tl.maximum(highest, score)
        total = total * tl.exp(highest - raised) + tl.exp(score - raised)
        highest = raised
    top = tl.max(highest, 0)
    log_total = top + tl.log(tl.sum(total * tl.exp(highest - top), 0))
    row_mass = tl.sum(mass, 0)

    value = tl.zeros([BLOCK], tl.float32)
    for start in range(0, width, BLOCK):
        column = start + lanes
        score = tl.load(scores + column, mask=column < width, other=_LOWEST)
        weight = tl.load(weights + column, mask=column < width, other=0.0)
        seen = tl.where(
            column == itself, _LOWEST, score + tl.where(column < weighted_columns, log_weight, 0.0)
        )
        p = tl.exp(seen - log_total)
        value += tl.where(weight > 0, weight * (log_total - score), 0.0)
        gradient = p * row_mass - weight
        if KEEP_POSITIVES:
            excess = tl.where(weight > 0, tl.maximum(p - weight, 0.0), 0.0)
            value -= tl.where(weight > 0, excess * score, 0.0)
            gradient -= excess
        tl.store(scores + column, gradient, mask=column < width)
    tl.store(values + row, tl.sum(value, 0))
    tl.store(masses + row, row_mass)
