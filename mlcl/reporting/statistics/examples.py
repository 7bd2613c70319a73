"""Over test examples: paired bootstrap of metrics and of their differences between losses.

One resample of the test split is a weight for each of its rows. The same resamples serve all losses and seeds of
a dataset, so differences are paired. A metric is computed from weights without copying a row:

- decisions: the counts that F1 is made of are sums over rows, so all resamples are one matrix product;
- average precision: rows are sorted once, and the rows between two positives enter as one sum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from mlcl.evaluation.metrics import THRESHOLD
from mlcl.reporting.statistics import CONFIDENCE
from mlcl.reporting.statistics.seeds import Estimate

RESAMPLES = 10_000
BLOCK = 1_000
"""Resamples that are in memory at a time."""

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Scored:
    """Test labels (N, L) and the scores (N, L) of each seed of a loss."""

    labels: Bools
    scores: Sequence[Floats]


def resampled(
    losses: Sequence[Scored], metric: str, resamples: int = RESAMPLES, seed: int = 0
) -> NDArray[np.float64]:
    """(losses, resamples): the metric on each resample, averaged over the seeds of each loss.

    All losses must be scored on the same rows. metric: one of METRICS. Raises ValueError otherwise.
    """
    rows = len(losses[0].labels)
    if any(not np.array_equal(loss.labels, losses[0].labels) for loss in losses):
        raise ValueError("a paired bootstrap needs the same test rows for all losses")
    prepared = [[METRICS[metric](loss.labels, scores) for scores in loss.scores] for loss in losses]
    rng = np.random.default_rng(seed)
    values = np.empty((len(losses), resamples))
    for start in range(0, resamples, BLOCK):
        weights = draw_weights(rng, rows, min(BLOCK, resamples - start))
        for i, seeds in enumerate(prepared):
            values[i, start : start + BLOCK] = np.mean([of_weights(weights) for of_weights in seeds], axis=0)
    return values


def draw_weights(rng: np.random.Generator, rows: int, resamples: int) -> Floats:
    """(resamples, rows): how often each row was drawn."""
    drawn = rng.integers(0, rows, size=(resamples, rows), dtype=np.int32)
    drawn += np.arange(resamples, dtype=np.int32)[:, None] * np.int32(rows)
    return np.bincount(drawn.ravel(), minlength=resamples * rows).reshape(resamples, rows).astype(np.float32)


def interval(values: NDArray[np.float64], observed: float, confidence: float = CONFIDENCE) -> Estimate:
    """The percentile interval of resampled values around what was observed."""
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Estimate(observed, float(low), float(high))


def p_value(differences: NDArray[np.float64]) -> float:
    """Two-sided: how often resampled differences fall on the other side of 0; never 0 itself."""
    n = len(differences)
    lower = (np.count_nonzero(differences <= 0) + 1) / (n + 1)
    upper = (np.count_nonzero(differences >= 0) + 1) / (n + 1)
    return float(min(1.0, 2 * min(lower, upper)))


OfWeights = Callable[[Floats], NDArray[np.float64]]
"""(resamples, rows) weights -> (resamples,) values of a metric."""


def _f1(average: str) -> Callable[[Bools, Floats], OfWeights]:
    def prepare(labels: Bools, scores: Floats) -> OfWeights:
        predicted = scores > THRESHOLD
        hit, total = _columns(labels & predicted), _columns(labels) + _columns(predicted)
        positive = _columns(labels)

        def of_weights(weights: Floats) -> NDArray[np.float64]:
            true, both = weights @ hit, weights @ total
            if average == "micro":
                return _ratio(2 * true.sum(1), both.sum(1))
            # As in the metric itself, a label without a positive in the resample takes no part.
            there = weights @ positive > 0
            return _ratio((_ratio(2 * true, both) * there).sum(1), there.sum(1))

        return of_weights

    return prepare


def _row_mean(value: Callable[[Bools, Bools], NDArray[Any]]) -> Callable[[Bools, Floats], OfWeights]:
    def prepare(labels: Bools, scores: Floats) -> OfWeights:
        values = value(labels, scores > THRESHOLD).astype(np.float32)
        return lambda weights: (weights @ values).astype(np.float64) / weights.shape[1]

    return prepare


def _average_precision(labels: Bools, scores: Floats) -> OfWeights:
    prepared = [_ranked(labels[:, k], scores[:, k]) for k in np.flatnonzero(labels.any(axis=0))]

    def of_weights(weights: Floats) -> NDArray[np.float64]:
        by_row = np.ascontiguousarray(weights.T)
        total, there = np.zeros(len(weights)), np.zeros(len(weights))
        for segments, positives, last in prepared:
            own = by_row[positives]
            found = np.cumsum(own, axis=0)[last]
            above = np.cumsum(segments @ by_row, axis=0)[last]
            size = own.sum(axis=0)
            precision = np.einsum("pr,pr->r", own, _ratio(found, above))
            total += _ratio(precision, size)
            there += size > 0
        return _ratio(total, there)

    return of_weights


def _ranked(y: Bools, scores: Floats) -> tuple[Any, NDArray[np.intp], NDArray[np.intp]]:
    """Rows by descending score, seen from the positives.

    Gives a (P, N) matrix that sums, for each positive, the rows after the positive before it up to itself, where
    the tied count as above; the positives in that order; and for each the last positive with the same score.
    """
    order = np.argsort(-scores, kind="stable")
    positives = order[y[order]]
    own = scores[positives]
    last = np.searchsorted(-own, -own, side="right") - 1
    # The first positive that a row's score is not below: the row counts for it and for all that follow.
    segment = np.searchsorted(-own, -scores, side="left")
    inside = np.flatnonzero(segment < len(positives))
    matrix = sparse.csr_array(
        (np.ones(len(inside), dtype=np.float32), (segment[inside], inside)), shape=(len(positives), len(y))
    )
    return matrix, positives, last


def _columns(mask: Bools) -> Floats:
    return mask.astype(np.float32)


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.zeros(np.shape(whole)), where=whole > 0)


METRICS: dict[str, Callable[[Bools, Floats], OfWeights]] = {
    "micro_f1": _f1("micro"),
    "macro_f1": _f1("macro"),
    "hamming_loss": _row_mean(lambda y, predicted: (y ^ predicted).mean(axis=1)),
    "subset_accuracy": _row_mean(lambda y, predicted: (y == predicted).all(axis=1)),
    "map": _average_precision,
}
"""Metrics that can be bootstrapped."""
