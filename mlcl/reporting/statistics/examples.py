"""Over test examples: a metric with a part of the rows left out, from which its variance follows (the jackknife).

The rows of a split are dealt into groups, the same for all losses and seeds of a dataset, and the metric is computed
once without each group. How much these values differ tells how much the metric depends on which examples the split
happens to hold; values of two losses are paired, so their difference has a variance of its own (Efron and Stein 1981:
on average this variance is at least the true one). A bootstrap that draws rows anew underestimates it where labels
are rare: a label with one or two positives often drops out of the resample or counts twice.

A metric is computed from a weight for each row, without copying a row:

- decisions: the counts that F1 is made of are sums over rows, so all groups are one matrix product;
- average precision: rows are sorted once, and the rows between two positives enter as one sum.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.stats import rankdata

from mlcl.evaluation.metrics import THRESHOLD

GROUPS = 100
"""Of rows; a split with fewer rows has one row in each."""
BANDS = ("head", "medium", "tail")

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
OfWeights = Callable[[Floats], NDArray[np.float64]]
"""(k, rows) weights -> (k,) values of a metric."""


@dataclass(frozen=True)
class Scored:
    """A split as one run scored it: labels and scores (N, L)."""

    labels: Bools
    scores: Floats
    tuned: NDArray[Any] | None = None
    """(L,) thresholds tuned on validation, for the metrics `*_tuned`."""
    bands: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """`head`, `medium`, `tail` -> label numbers, for the metrics `*_head` and so on."""
    known: Bools | None = None
    """(N, L) which labels are known; the others are False in `labels`. None for all."""


def is_supported(metric: str) -> bool:
    """Whether `without_groups` can compute the metric, given thresholds and bands where its name asks for them."""
    base, _, tuned = _parse(metric)
    return base in METRICS and not (tuned and base not in DECISIONS)


def without_groups(scored: Scored, metric: str, seed: int = 0) -> NDArray[np.float64]:
    """(groups,) the metric without each group of rows; the groups depend on the number of rows and `seed` alone.

    Raises ValueError for a metric that is not supported, and where its thresholds or bands are not given.
    """
    rows = len(scored.labels)
    groups = min(GROUPS, rows)
    weights = np.ones((groups, rows), dtype=np.float32)
    dealt = np.random.default_rng(seed).permutation(rows) % groups
    weights[dealt, np.arange(rows)] = 0
    return prepare(scored, metric)(weights)


def prepare(scored: Scored, metric: str) -> OfWeights:
    """The metric as a function of the weights of rows. Raises ValueError as `without_groups` does."""
    base, band, tuned = _parse(metric)
    labels, scores, known = scored.labels, scored.scores, scored.known
    threshold: Any = THRESHOLD
    if not is_supported(metric):
        raise ValueError(f"metric '{metric}' is not supported")
    if tuned:
        if scored.tuned is None:
            raise ValueError(f"metric '{metric}' needs thresholds tuned on validation")
        threshold = scored.tuned
    if band is not None:
        if band not in scored.bands:
            raise ValueError(f"metric '{metric}' needs the labels of the band '{band}'")
        chosen = scored.bands[band]
        labels, scores = labels[:, chosen], scores[:, chosen]
        known = None if known is None else known[:, chosen]
        threshold = threshold if np.ndim(threshold) == 0 else threshold[chosen]
    if known is None:
        return _of_all(base, labels, scores, threshold)
    if base in OF_ROWS:
        whole = known.all(axis=1)
        of_whole = _of_all(base, labels[whole], scores[whole], threshold)
        return lambda weights: of_whole(weights[:, whole])
    scores = np.where(known, scores, -1)  # predicted by no threshold, and ranked below all known ones
    if base == "hamming_loss":
        wrong, number = (_columns(mask).sum(axis=1) for mask in (labels ^ (scores > threshold), known))
        return lambda weights: _ratio(weights @ wrong, weights @ number)
    return _of_all(base, labels, scores, threshold)


def _of_all(base: str, labels: Bools, scores: Floats, threshold: Any) -> OfWeights:
    if base in DECISIONS:
        return DECISIONS[base](labels, scores > threshold)
    return RANKINGS[base](labels, scores)


def covariance(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(k, k) covariance over examples of k metrics. values (k, groups): each without each group of rows."""
    groups = values.shape[1]
    centred = values - values.mean(axis=1, keepdims=True)
    return np.asarray((groups - 1) / groups * (centred @ centred.T))


def _parse(metric: str) -> tuple[str, str | None, bool]:
    """The metric without its endings, the band of labels, whether thresholds are tuned."""
    for band in BANDS:
        if metric.endswith(f"_{band}"):
            return metric.removesuffix(f"_{band}"), band, False
    return metric.removesuffix("_tuned"), None, metric.endswith("_tuned")


def _f1(average: str) -> Callable[[Bools, Bools], OfWeights]:
    def prepared(labels: Bools, predicted: Bools) -> OfWeights:
        hit, total = _columns(labels & predicted), _columns(labels) + _columns(predicted)
        positive = _columns(labels)

        def of_weights(weights: Floats) -> NDArray[np.float64]:
            true, both = weights @ hit, weights @ total
            if average == "micro":
                return _ratio(2 * true.sum(1), both.sum(1))
            # As in the metric itself, a label without a positive takes no part.
            present = weights @ positive > 0
            return _ratio((_ratio(2 * true, both) * present).sum(1), present.sum(1))

        return of_weights

    return prepared


def _row_mean(value: Callable[[Bools, Bools], NDArray[Any]]) -> Callable[[Bools, Bools], OfWeights]:
    def prepared(labels: Bools, predicted: Bools) -> OfWeights:
        values = value(labels, predicted).astype(np.float32)
        return lambda weights: _ratio(weights @ values, weights.sum(axis=1))

    return prepared


def _ranking_loss(labels: Bools, scores: Floats) -> OfWeights:
    """Over rows with a label: the share of pairs (label of the row, other label) in which the other scores as high."""
    as_high = rankdata(-scores, method="max", axis=1)
    own_as_high = rankdata(np.where(labels, -scores, np.inf), method="max", axis=1)
    wrong = np.where(labels, as_high - own_as_high, 0).sum(axis=1)
    sizes = labels.sum(axis=1)
    losses = (wrong / np.maximum(sizes * (labels.shape[1] - sizes), 1)).astype(np.float32)
    present = (sizes > 0).astype(np.float32)
    return lambda weights: _ratio(weights @ (losses * present), weights @ present)


def _average_precision(labels: Bools, scores: Floats) -> OfWeights:
    prepared = [_ranked(labels[:, k], scores[:, k]) for k in np.flatnonzero(labels.any(axis=0))]

    def of_weights(weights: Floats) -> NDArray[np.float64]:
        by_row = np.ascontiguousarray(weights.T)
        total, present = np.zeros(len(weights)), np.zeros(len(weights))
        for segments, positives, last in prepared:
            drawn = by_row[positives]
            positives_above = np.cumsum(drawn, axis=0)[last]
            rows_above = np.cumsum(segments @ by_row, axis=0)[last]
            size = drawn.sum(axis=0)
            precision = np.einsum("pr,pr->r", drawn, _ratio(positives_above, rows_above))
            total += _ratio(precision, size)
            present += size > 0
        return _ratio(total, present)

    return of_weights


def _ranked(y: Bools, scores: Floats) -> tuple[Any, NDArray[np.intp], NDArray[np.intp]]:
    """Rows by descending score, seen from the positives.

    Gives a (P, N) matrix that sums, for each positive, the rows after the positive before it up to itself, where
    the tied count as above; the positives in that order; and for each the last positive with the same score.
    """
    order = np.argsort(-scores, kind="stable")
    positives = order[y[order]]
    of_positives = scores[positives]
    last = np.searchsorted(-of_positives, -of_positives, side="right") - 1
    # The first positive that a row's score is not below: the row counts for it and for all that follow.
    segment = np.searchsorted(-of_positives, -scores, side="left")
    inside = np.flatnonzero(segment < len(positives))
    matrix = sparse.csr_array(
        (np.ones(len(inside), dtype=np.float32), (segment[inside], inside)), shape=(len(positives), len(y))
    )
    return matrix, positives, last


def _columns(mask: Bools) -> Floats:
    return mask.astype(np.float32)


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.zeros(np.shape(whole)), where=whole > 0)


DECISIONS: dict[str, Callable[[Bools, Bools], OfWeights]] = {
    "micro_f1": _f1("micro"),
    "macro_f1": _f1("macro"),
    "hamming_loss": _row_mean(lambda y, predicted: (y ^ predicted).mean(axis=1)),
    "subset_accuracy": _row_mean(lambda y, predicted: (y == predicted).all(axis=1)),
}
"""Metrics of labels and predictions."""
RANKINGS: dict[str, Callable[[Bools, Floats], OfWeights]] = {
    "map": _average_precision,
    "ranking_loss": _ranking_loss,
}
"""Metrics of labels and scores."""
OF_ROWS = frozenset({"subset_accuracy", "ranking_loss"})
"""Those that need all labels of a row."""
METRICS = frozenset(DECISIONS) | frozenset(RANKINGS)
