"""The fused form of the kernel, for CUDA: no matrix of pairs in memory, one visit for the value, one for the gradient.

The tile form (`_kernel.py`) writes scores, weights and gradients of a tile to memory and reads them back several
times. Here two Triton kernels (`_triton_fused.py`) make them anew on the chip where they are needed. For B rows,
L labels and width D <= 256 the matrix units do 2 B^2 (3 D + 2 L) operations a step instead of 2 B^2 (3 D + L).

It covers losses whose anchors and references are the batch (or given references, such as a queue) and whose
weighting is a function of a pair's number of shared labels and its two sizes (`PairWeighting`), or one weight for
each label (`LabelWeighting` with a number for F). `check_covered` says why a call is not.

Precision: float32 inputs, float32 sums. By default every factor of a product has 22 bits of mantissa, in two
float16 parts, so that scores and gradients are float32's to within its rounding; where TF32 is allowed for
matrix products (`torch.backends.cuda.matmul`) factors have 11 bits, as TF32 has, in one float16
part. Numbers of shared labels are exact.
"""

from __future__ import annotations

import linecache
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from math import ceil, log
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mlcl.losses._errors import NotFusedError
from mlcl.losses._kernel import normalise, total_weight

if TYPE_CHECKING:
    from mlcl.losses._kernel import Problem
    from mlcl.losses._pairs import LabelSets, Participants

WIDEST = 1024  # columns of embeddings; each 256 of them make scores and shared labels once more
TIMED_CAPABILITY, TIMED_COLUMNS = (
    (9, 0),
    256,
)  # the card and the widest embeddings with which both forms were timed
LABELS_OF_A_PAIR = 1200  # what a pair costs the tile form beside its labels, in labels
FASTER_FROM = {  # pairs x (labels + LABELS_OF_A_PAIR), by (weighted, precise)
    (False, True): 2.0e10,
    (True, True): 5.5e10,
    (False, False): 1.0e11,
    (True, False): float("inf"),
}
"""From how much work on the fused form was the faster one on an H100 (`results/reference/losses_h100.csv`)."""
_UNIT = 2.0**15  # unit vectors and label weights are stored times this: float16 then has no use for denormals
_NOWHERE = -(2**30)  # a self column that no row meets


@dataclass(frozen=True)
class Blocks:
    """Shape of a kernel's tile of pairs, and how it runs."""

    rows: int = 128
    columns: int = 128
    depth: int = 64  # of the embeddings in one step of their product
    labels: int = 128  # in one step of their product
    output: int = 64  # columns of the gradient that one program makes
    warps: int = 8
    stages: int = 3


@dataclass(frozen=True)
class BlocksOfPasses:
    row_sums: Blocks
    gradient: Blocks


@dataclass
class FusedWeighting:
    """How W_ik is made: g_ik / n_i, with g = `pair_weight` of shared labels and sizes.

    n_i is the sum of g ("weights") or the number of g > 0 ("positives"), plus epsilon, where `normaliser` says
    so; or W_ik = c_i sum_{l in y_i and y_k} r_l with `anchor_factors` c (B,) and `label_factors` r (L,).
    """

    pair_weight: str  # source, see `_elementwise`
    normaliser: str = "weights"
    epsilon: float = 0.0
    anchor_factors: Tensor | None = None
    label_factors: Tensor | None = None


def check_covered(problem: Problem, embeddings: Tensor) -> None:
    """Raise NotFusedError, with the reason, where the fused form does not cover a call."""
    if find_spec("triton") is None or not (embeddings.is_cuda or _interpreted()):
        raise NotFusedError("it needs CUDA and Triton")
    if embeddings.dtype != torch.float32:
        raise NotFusedError(f"it is for float32, not {str(embeddings.dtype).removeprefix('torch.')}")
    if problem.anchors != ("batch",) or problem.references != ("batch",):
        raise NotFusedError("anchors or references are prototypes")
    if problem.batch_weight != 1 or problem.never_push_positives:
        raise NotFusedError("references are weighted in the denominator, or no positive is pushed away")
    if problem.ranks.size > 1:
        raise NotFusedError("the batch lies on several ranks")
    if not 0 < embeddings.shape[1] <= WIDEST:
        raise NotFusedError(
            f"embeddings must have at most {WIDEST} columns, these have {embeddings.shape[1]}"
        )
    if not len(embeddings):
        raise NotFusedError("the batch is empty")


def check_faster(participants: Participants, embeddings: Tensor, *, weighted: bool) -> None:
    """Raise NotFusedError, with the reason, where the fused form is not known to be the faster one."""
    if capability_of(embeddings.device) != TIMED_CAPABILITY or embeddings.shape[1] > TIMED_COLUMNS:
        raise NotFusedError("it was timed on Hopper only, with at most 256 columns")
    labels = participants.batch.labels
    assert labels is not None
    pairs = len(embeddings) * len(participants.references[0][1].sizes)
    if not is_faster(pairs, labels.shape[1], weighted=weighted, precise=_precise()):
        raise NotFusedError("it is not faster at this size")


def capability_of(device: torch.device) -> tuple[int, int]:
    """CUDA's number of the card's architecture; (0, 0) for a CPU."""
    return torch.cuda.get_device_capability(device) if device.type == "cuda" else (0, 0)


def is_faster(pairs: int, labels: int, *, weighted: bool, precise: bool) -> bool:
    """Whether the fused form is the faster one on an H100, for losses with one weight a label (`weighted`), and
    products of 22 bits (`precise`) or of 11.

    Small batches are bound by the number of kernels that are started, of which the tile form has fewer. Weighted
    labels are 16-bit factors, others 8-bit ones, whose products are twice as fast.
    """
    return pairs * (labels + LABELS_OF_A_PAIR) >= FASTER_FROM[weighted, precise]


class FusedCrossEntropy(torch.autograd.Function):
    """As `WeightedCrossEntropy`: (embeddings (B, D), references (Q, D) or None, ...) -> scalar L."""

    @staticmethod
    def forward(
        ctx: Any,
        embeddings: Tensor,
        references: Tensor | None,
        problem: Problem,
        participants: Participants,
        weighting: FusedWeighting,
    ) -> Tensor:
        form = _Form(problem, weighting, embeddings)
        batch, others = normalise(embeddings), None if references is None else normalise(references)
        anchors = form.side(batch.directions, participants.batch)
        keys = anchors if others is None else form.side(others.directions, participants.references[0][1])
        value, mass, normalisers = form.value(anchors, keys)
        if problem.total_weight is None:
            total = mass.count_nonzero().clamp_min(1).to(value.dtype)
        else:
            total = total_weight(problem.total_weight, value).clamp_min(1)
        if problem.needs_gradient:
            ctx.form, ctx.sides, ctx.inputs = form, (anchors, keys), (batch, others)
            ctx.save_for_backward(normalisers, (1 / total).to(embeddings.dtype))
        return (value / total).to(embeddings.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        normalisers, scale = ctx.saved_tensors
        (anchors, keys), (batch, others) = ctx.sides, ctx.inputs
        scale = scale * grad_output
        gradients: list[Tensor | None] = [None, None]
        if ctx.needs_input_grad[0]:
            both = keys is anchors
            found = ctx.form.gradient(anchors, keys, normalisers, of_rows=True, of_columns=both)
            gradients[0] = batch.input_gradient(found, scale)
        if ctx.needs_input_grad[1]:
            found = ctx.form.gradient(keys, anchors, normalisers, of_rows=False, of_columns=True)
            gradients[1] = others.input_gradient(found, scale)
        return (*gradients, None, None, None)


@dataclass
class _Side:
    """One side of the pairs as the kernels read it, padded by zeros to whole blocks."""

    count: int
    columns: int  # of its vectors
    high: Tensor  # (padded, width) float16: unit vectors times 2**15 ...
    low: Tensor  # ... and what that rounds away; `high` itself where one part is enough
    labels: Tensor  # (padded, label width) int8, or float16 for weighted labels
    sizes: Tensor  # (padded,) float32


class _Form:
    """Launches the two kernels for one call."""

    def __init__(self, problem: Problem, weighting: FusedWeighting, embeddings: Tensor) -> None:
        self.weighting, self.temperature = weighting, problem.temperature
        self.exclude_self = problem.exclude_self
        self.precise = _precise()
        self.pair_weight = compiled(weighting.pair_weight)
        self.weighted = weighting.label_factors is not None
        self.blocks = blocks_for(embeddings.shape[1], self.weighted)
        chosen = (self.blocks.row_sums, self.blocks.gradient)
        self.padding = max(max(b.rows, b.columns) for b in chosen)
        self.width = _up(embeddings.shape[1], max(max(b.depth, b.output) for b in chosen))
        self.label_padding = max(b.labels for b in chosen)
        cuda = embeddings.is_cuda
        self.processors = (
            torch.cuda.get_device_properties(embeddings.device).multi_processor_count if cuda else 4
        )

    def side(self, vectors: Tensor, sets: LabelSets) -> _Side:
        assert sets.labels is not None
        rows = _up(len(vectors), self.padding)
        high, low = _two_parts(_padded(vectors * _UNIT, rows, self.width))
        labels = sets.labels.to(torch.float16 if self.weighted else torch.int8)
        return _Side(
            len(vectors),
            vectors.shape[1],
            high,
            low if self.precise else high,
            _padded(labels, rows, _up(max(labels.shape[1], 1), self.label_padding)),
            _padded(sets.sizes.float()[None], 1, rows)[0],
        )

    def value(self, anchors: _Side, keys: _Side) -> tuple[Tensor, Tensor, Tensor]:
        """N L (float64), the anchors' sums of weights (B,), and `normalisers` (3, padded) for the gradient."""
        from mlcl.losses._triton_fused import row_sums

        blocks = self.blocks.row_sums
        padded, count = len(anchors.high), anchors.count
        splits, per_split = self._splits(count, keys.count, blocks)
        sums = anchors.sizes.new_zeros(splits, 5, padded)
        row_sums[(ceil(count / blocks.rows), splits)](
            *self._operands(anchors, keys),
            sums,
            padded,
            keys.count,
            per_split,
            *self._scalars(anchors),
            **self._constants(blocks),
        )
        highest, total, mass, positives, weighted = sums.unbind(1)
        top = highest.amax(0)
        total = (total * torch.exp2(highest - top)).sum(0)
        lse = torch.where(total > 0, top + total.log2(), 0.0)
        mass, weighted = mass.sum(0), weighted.sum(0)
        if self.weighting.anchor_factors is None:
            counted = mass if self.weighting.normaliser == "weights" else positives.sum(0)
            share = 1 / (counted.masked_fill(counted == 0, 1) + self.weighting.epsilon)
        else:
            share = _padded(self.weighting.anchor_factors[None], 1, padded)[0] * self._label_unit()
        mass = mass * share
        value = log(2) * (mass.double() * lse - weighted.double() * share)[:count].sum()
        return value, mass[:count], torch.stack([lse, mass, share])

    def gradient(
        self, rows: _Side, columns: _Side, normalisers: Tensor, *, of_rows: bool, of_columns: bool
    ) -> Tensor:
        """d N L / d unit vectors of the rows (n, D), as anchors (`of_rows`), as references (`of_columns`)."""
        from mlcl.losses._triton_fused import gradient

        blocks = self.blocks.gradient
        padded = len(rows.high)
        splits, per_split = self._splits(rows.count, columns.count, blocks)
        output = rows.sizes.new_empty(splits, padded, self.width)
        # |H| is at most twice the largest sum of weights, and is to be at most 2**15.
        exponent = torch.frexp(normalisers[1].max()).exponent.clamp(-100, 100)
        scale = torch.exp2(14.0 - exponent)
        gradient[(ceil(rows.count / blocks.rows), self.width // blocks.output, splits)](
            *self._operands(rows, columns),
            normalisers,
            normalisers,
            scale,
            output,
            padded,
            len(columns.high),
            columns.count,
            per_split,
            *self._scalars(rows),
            ROWS_ARE_ANCHORS=of_rows,
            COLUMNS_ARE_ANCHORS=of_columns,
            OUTPUT=blocks.output,
            **self._constants(blocks),
        )
        return output[:, : rows.count, : rows.columns].sum(0) / (scale * _UNIT * self.temperature)

    def _operands(self, rows: _Side, columns: _Side) -> list[Tensor]:
        labels = [rows.labels, rows.labels]
        if self.weighting.label_factors is not None:
            factors = (self.weighting.label_factors / self._label_unit())[None]
            parts = _two_parts(_padded(factors, 1, rows.labels.shape[1]))
            labels = [rows.labels * part for part in parts]
        return [
            rows.high,
            rows.low,
            columns.high,
            columns.low,
            *labels,
            columns.labels,
            rows.sizes,
            columns.sizes,
        ]

    def _scalars(self, rows: _Side) -> list[Any]:
        score_unit = 1 / (_UNIT**2 * self.temperature * log(2))
        return [rows.labels.shape[1], 0 if self.exclude_self else _NOWHERE, score_unit]

    def _constants(self, blocks: Blocks) -> dict[str, Any]:
        return {
            "PAIR_WEIGHT": self.pair_weight,
            "WIDTH": self.width,
            "PRECISE": self.precise,
            "WEIGHTED": self.weighted,
            "ROWS": blocks.rows,
            "COLUMNS": blocks.columns,
            "DEPTH": blocks.depth,
            "LABELS": blocks.labels,
            "num_warps": blocks.warps,
            "num_stages": blocks.stages,
        }

    def _label_unit(self) -> Tensor:
        """What the stored label weights, of which the largest is 2**15, are to be multiplied by."""
        assert self.weighting.label_factors is not None
        return self.weighting.label_factors.max().clamp_min(1e-30) / _UNIT

    def _splits(self, rows: int, columns: int, blocks: Blocks) -> tuple[int, int]:
        """Into how many parts the columns go, so that few rows still fill the GPU, and columns of a part."""
        tiles = ceil(columns / blocks.columns)
        wanted = ceil(2 * self.processors / ceil(rows / blocks.rows))
        tiles_per_split = ceil(tiles / min(tiles, wanted))
        return ceil(tiles / tiles_per_split), tiles_per_split * blocks.columns


def blocks_for(width: int, weighted: bool) -> BlocksOfPasses:
    """The blocks for embeddings of a width: up to 128 columns are taken in one step of the product, and one
    program makes up to 256 columns of the gradient, which is what the registers hold beside the pairs."""
    output = 64 if width <= 64 else 128 if width <= 128 else 256
    steps = {"depth": 128 if 64 < width <= 128 else 64, "labels": 64 if weighted else 128}
    return BlocksOfPasses(row_sums=Blocks(**steps), gradient=Blocks(columns=64, output=output, **steps))


@cache
def compiled(source: str) -> Callable[..., Any]:
    """The Triton function of a `pair_weight`'s source."""
    import triton  # type: ignore[import-untyped]
    import triton.language as tl  # type: ignore[import-untyped]

    # Triton reads a function's source by its file's name; `linecache` has it where there is no such file.
    name = f"<pair weight {sha256(source.encode()).hexdigest()[:16]}>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    namespace: dict[str, Any] = {"tl": tl, "__name__": __name__}
    exec(compile(source, name, "exec"), namespace)
    function: Callable[..., Any] = triton.jit(namespace["pair_weight"])
    return function


def _precise() -> bool:
    return torch.backends.cuda.matmul.fp32_precision != "tf32"


def _interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET") == "1"


def _up(count: int, step: int) -> int:
    return ceil(count / step) * step


def _padded(values: Tensor, rows: int, columns: int) -> Tensor:
    found = values.new_zeros(rows, columns)
    found[: values.shape[0], : values.shape[1]] = values
    return found


def _two_parts(values: Tensor) -> tuple[Tensor, Tensor]:
    high = values.half()
    return high, (values - high.float()).half()
