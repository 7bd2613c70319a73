"""`_tile.torch_tile` as a Triton kernel with one program for each row.

The matrix products around it stay with cuBLAS. Fused is what lies between scores and weights and the gradient:
torch reads the (t, m) tile about ten times, this kernel twice (once for the maximum and the sum, once for the
value and the gradient, which overwrites the scores).
"""

from __future__ import annotations

from math import log

import torch
import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]
from torch import Tensor

from mlcl.losses._tile import TileOptions

_BLOCK = 1024
_NO_SELF_COLUMN = -(2**30)  # so far to the left that no row reaches it
_LOWEST = tl.constexpr(-1.0e30)  # the score of excluded columns: finite, so that empty rows give 0, not NaN


def triton_tile(scores: Tensor, weights: Tensor, options: TileOptions) -> tuple[Tensor, Tensor, Tensor]:
    """As `_tile.torch_tile`; overwrites the scores, which become the gradient."""
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
            _NO_SELF_COLUMN if options.self_column is None else options.self_column,
            options.weighted_columns,
            log(options.column_weight),
            NEVER_PUSH_POSITIVES=options.never_push_positives,
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
    NEVER_PUSH_POSITIVES: tl.constexpr,
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
        if NEVER_PUSH_POSITIVES:
            excess = tl.where(weight > 0, tl.maximum(p - weight, 0.0), 0.0)
            value -= tl.where(weight > 0, excess * score, 0.0)
            gradient -= excess
        tl.store(scores + column, gradient, mask=column < width)
    tl.store(values + row, tl.sum(value, 0))
    tl.store(masses + row, row_mass)
