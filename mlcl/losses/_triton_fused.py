"""The fused form's two kernels: sums over each row of pairs, and the gradient, with no matrix of pairs in memory.

Both go tile by tile through the pairs of row items and column items. Of a tile, the scores and the numbers of
shared labels are products on the matrix units; the weights, the softmax and the gradient are made from them in
registers, and only sums over the columns are written.

Operands are prepared by `_fused.py`: unit vectors times 2**15 as float16, in one part (10 bits of mantissa, as
TF32) or in two, `high` + `low` (22 bits, as float32 to within its rounding); labels as 8-bit integers, whose
products are summed exactly in 32-bit integers, or weighted labels in two parts of float16. All matrices are
padded by zeros to whole blocks, so that no load needs a mask. Scores are in units of log 2.
"""

from __future__ import annotations

import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]

_LOWEST = tl.constexpr(-1.0e30)  # masks by a finite number, so that masked rows give 0 and not NaN
_LOG2 = tl.constexpr(0.6931471805599453)


@triton.jit
def _held(high, low, rows, WIDTH: tl.constexpr, PRECISE: tl.constexpr, DEPTH: tl.constexpr):  # type: ignore[no-untyped-def]
    """The rows' vectors where one step takes all of them: they stay on the chip for all columns."""
    if WIDTH == DEPTH:
        place = rows.to(tl.int64)[:, None] * WIDTH + tl.arange(0, DEPTH)[None, :]
        held_high = tl.load(high + place)
        held_low = tl.load(low + place) if PRECISE else held_high
    else:
        held_high, held_low = rows, rows
    return held_high, held_low


@triton.jit
def _scores_and_shared(  # type: ignore[no-untyped-def]
    row_high,
    row_low,
    column_high,
    column_low,
    row_labels,
    row_labels_low,
    column_labels,
    held_high,
    held_low,
    rows,
    columns,
    label_width,
    score_unit,
    WIDTH: tl.constexpr,
    PRECISE: tl.constexpr,
    WEIGHTED: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
    LABELS: tl.constexpr,
):
    """Scores (ROWS, COLUMNS) in units of log 2, and numbers of shared labels (or sums of their weights)."""
    # Row numbers times widths pass 2**31: 64-bit integers.
    label = tl.arange(0, LABELS)
    left = rows.to(tl.int64)[:, None] * label_width + label[None, :]
    right = columns.to(tl.int64)[None, :] * label_width + label[:, None]
    if WEIGHTED:
        shared = tl.zeros([ROWS, COLUMNS], tl.float32)
        for start in range(0, label_width, LABELS):
            b = tl.load(column_labels + right + start)
            shared = tl.dot(tl.load(row_labels + left + start), b, shared)
            shared = tl.dot(tl.load(row_labels_low + left + start), b, shared)
    else:
        count = tl.zeros([ROWS, COLUMNS], tl.int32)
        for start in range(0, label_width, LABELS):
            a = tl.load(row_labels + left + start)
            count = tl.dot(a, tl.load(column_labels + right + start), count, out_dtype=tl.int32)
        shared = count.to(tl.float32)

    depth = tl.arange(0, DEPTH)
    left = rows.to(tl.int64)[:, None] * WIDTH + depth[None, :]
    right = columns.to(tl.int64)[None, :] * WIDTH + depth[:, None]
    scores = tl.zeros([ROWS, COLUMNS], tl.float32)
    for start in range(0, WIDTH, DEPTH):
        a = held_high if WIDTH == DEPTH else tl.load(row_high + left + start)
        b = tl.load(column_high + right + start)
        if PRECISE:
            a_low = held_low if WIDTH == DEPTH else tl.load(row_low + left + start)
            scores = tl.dot(a, tl.load(column_low + right + start), scores)
            scores = tl.dot(a_low, b, scores)
        scores = tl.dot(a, b, scores)
    return scores * score_unit, shared


@triton.jit(do_not_specialize=["column_count"])
def row_sums(  # type: ignore[no-untyped-def]
    row_high,
    row_low,
    column_high,
    column_low,
    row_labels,
    row_labels_low,
    column_labels,
    row_sizes,
    column_sizes,
    sums,
    padded_rows,
    column_count,
    columns_per_split,
    label_width,
    self_column,
    score_unit,
    PAIR_WEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    PRECISE: tl.constexpr,
    WEIGHTED: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
    LABELS: tl.constexpr,
):
    """One visit of the pairs for everything that the loss needs of a row.

    Program (i, j) goes through the j-th part of the columns and writes sums (splits, 5, padded rows): the
    highest score x, the sum of 2^(x_k - highest), the sum of weights g_k, the number of g_k > 0, and the sum
    of g_k x_k. Row i does not meet column self_column + i.
    """
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    row_size = tl.load(row_sizes + rows)[:, None]
    held_high, held_low = _held(row_high, row_low, rows, WIDTH, PRECISE, DEPTH)
    highest = tl.full([ROWS], _LOWEST, tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    mass = tl.zeros([ROWS], tl.float32)
    positives = tl.zeros([ROWS], tl.float32)
    weighted = tl.zeros([ROWS], tl.float32)
    first = tl.program_id(1) * columns_per_split
    for start in range(first, tl.minimum(first + columns_per_split, column_count), COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        scores, shared = _scores_and_shared(
            row_high,
            row_low,
            column_high,
            column_low,
            row_labels,
            row_labels_low,
            column_labels,
            held_high,
            held_low,
            rows,
            columns,
            label_width,
            score_unit,
            WIDTH,
            PRECISE,
            WEIGHTED,
            ROWS,
            COLUMNS,
            DEPTH,
            LABELS,
        )
        column_size = tl.load(column_sizes + columns)[None, :]
        counts = (columns[None, :] < column_count) & (columns[None, :] != self_column + rows[:, None])
        g = tl.where(counts, PAIR_WEIGHT(shared, row_size, column_size), 0.0)
        raised = tl.maximum(highest, tl.max(tl.where(counts, scores, _LOWEST), 1))
        p = tl.where(counts, tl.exp2(scores - raised[:, None]), 0.0)
        total = total * tl.exp2(highest - raised) + tl.sum(p, 1)
        highest = raised
        mass += tl.sum(g, 1)
        positives += tl.sum(tl.where(g > 0, 1.0, 0.0), 1)
        weighted += tl.sum(g * scores, 1)
    sums += tl.program_id(1).to(tl.int64) * 5 * padded_rows
    tl.store(sums + rows, highest)
    tl.store(sums + padded_rows + rows, total)
    tl.store(sums + 2 * padded_rows + rows, mass)
    tl.store(sums + 3 * padded_rows + rows, positives)
    tl.store(sums + 4 * padded_rows + rows, weighted)


@triton.jit(do_not_specialize=["column_count"])
def gradient(  # type: ignore[no-untyped-def]
    row_high,
    row_low,
    column_high,
    column_low,
    row_labels,
    row_labels_low,
    column_labels,
    row_sizes,
    column_sizes,
    row_normalisers,
    column_normalisers,
    gradient_scale,
    output,
    padded_rows,
    padded_columns,
    column_count,
    columns_per_split,
    label_width,
    self_column,
    score_unit,
    PAIR_WEIGHT: tl.constexpr,
    ROWS_ARE_ANCHORS: tl.constexpr,
    COLUMNS_ARE_ANCHORS: tl.constexpr,
    WIDTH: tl.constexpr,
    PRECISE: tl.constexpr,
    WEIGHTED: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
    LABELS: tl.constexpr,
    OUTPUT: tl.constexpr,
):
    """sum_k H_rk z_k for row items r, where H_rk is what the pair's score adds to the gradient.

    With x the score, an anchor i and its reference k give G_ik = m_i 2^(x - lse_i) - g_ik / n_i. Rows may be
    anchors (H = G_rk), columns may be (H = G_kr), or both, as in a batch whose items are either: one visit
    then gives an item's whole gradient. `normalisers` (3, padded items) holds lse, m and 1 / n.

    Program (i, j, k) writes OUTPUT columns of output (splits, padded rows, WIDTH), times 2**15 and
    `gradient_scale`, a power of two that brings H into the range of float16.
    """
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    outputs = tl.program_id(1) * OUTPUT + tl.arange(0, OUTPUT)
    row_size = tl.load(row_sizes + rows)[:, None]
    held_high, held_low = _held(row_high, row_low, rows, WIDTH, PRECISE, DEPTH)
    scale = tl.load(gradient_scale)
    if ROWS_ARE_ANCHORS:
        row_lse = tl.load(row_normalisers + rows)[:, None]
        row_mass = tl.load(row_normalisers + padded_rows + rows)[:, None] * scale
        row_share = tl.load(row_normalisers + 2 * padded_rows + rows)[:, None] * scale
    total = tl.zeros([ROWS, OUTPUT], tl.float32)
    first = tl.program_id(2) * columns_per_split
    for start in range(first, tl.minimum(first + columns_per_split, column_count), COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        scores, shared = _scores_and_shared(
            row_high,
            row_low,
            column_high,
            column_low,
            row_labels,
            row_labels_low,
            column_labels,
            held_high,
            held_low,
            rows,
            columns,
            label_width,
            score_unit,
            WIDTH,
            PRECISE,
            WEIGHTED,
            ROWS,
            COLUMNS,
            DEPTH,
            LABELS,
        )
        column_size = tl.load(column_sizes + columns)[None, :]
        h = tl.zeros([ROWS, COLUMNS], tl.float32)
        if ROWS_ARE_ANCHORS:
            h += tl.exp2(scores - row_lse) * row_mass - PAIR_WEIGHT(shared, row_size, column_size) * row_share
        if COLUMNS_ARE_ANCHORS:
            lse = tl.load(column_normalisers + columns)[None, :]
            mass = tl.load(column_normalisers + padded_columns + columns)[None, :] * scale
            share = tl.load(column_normalisers + 2 * padded_columns + columns)[None, :] * scale
            h += tl.exp2(scores - lse) * mass - PAIR_WEIGHT(shared, column_size, row_size) * share
        counts = (columns[None, :] < column_count) & (columns[None, :] != self_column + rows[:, None])
        h = tl.where(counts, h, 0.0)
        high = h.to(tl.float16)
        right = columns.to(tl.int64)[:, None] * WIDTH + outputs[None, :]
        z = tl.load(column_high + right)
        if PRECISE:
            total = tl.dot((h - high.to(tl.float32)).to(tl.float16), z, total)
            total = tl.dot(high, tl.load(column_low + right), total)
        total = tl.dot(high, z, total)
    left = tl.program_id(2).to(tl.int64) * padded_rows + rows
    tl.store(output + left[:, None] * WIDTH + outputs[None, :], total)
