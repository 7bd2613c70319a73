"""Metrics of embeddings: how well distances reflect labels. Plain numpy; docs/metrics.md defines them.

All use l2-normalised embeddings. The queries are rows of the test split; the references are the rows of validation
(kNN) or the other rows of test.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlcl.evaluation.metrics import BLOCK, THRESHOLD, UNKNOWN, MetricsError, evaluate

NEIGHBOURS = 10
MOST_ROWS = 2000
"""Metrics of pairs use at most this many rows, the first: the number of pairs grows with the square."""

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


def evaluate_embeddings(
    val: tuple[ArrayLike, ArrayLike], test: tuple[ArrayLike, ArrayLike]
) -> dict[str, float]:
    """All representation metrics of the test split; each split is given as (labels (N, L), embeddings (N, D)).

    Rows with an unknown label (-1) are left out: their label set is not known. None of the metrics without any row.

    Raises MetricsError for embeddings that are not finite or do not fit the labels.
    """
    (y_val, z_val), (y_test, z_test) = _checked(*val), _checked(*test)
    if not (len(y_val) and len(y_test)):
        return {}
    result = _neighbours(y_val, z_val, y_test, z_test)
    y, z = y_test[:MOST_ROWS], z_test[:MOST_ROWS]
    if len(y) > 1:
        result |= _pairs(y, z)
    return result


def _neighbours(y_val: Ints, z_val: Floats, y_test: Ints, z_test: Floats) -> dict[str, float]:
    """F1 of predicting the labels that more than half of the k nearest validation rows have."""
    k = min(NEIGHBOURS, len(y_val))
    votes = np.empty(y_test.shape, dtype=np.float32)
    step = max(1, BLOCK // len(y_val))
    for start in range(0, len(z_test), step):
        rows = slice(start, start + step)
        similarity = z_test[rows] @ z_val.T
        nearest = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
        votes[rows] = y_val[nearest].mean(axis=1)
    values = evaluate(y_test, votes, THRESHOLD)
    return {f"knn_{metric}": values[metric] for metric in ("micro_f1", "macro_f1") if metric in values}


def _pairs(y: Ints, z: Floats) -> dict[str, float]:
    """Retrieval, alignment, uniformity and similarity by relation, over all pairs of rows but a row with itself."""
    similarity = z @ z.T
    shared, size = y @ y.T, y.sum(axis=1)
    other = ~np.eye(len(y), dtype=np.bool_)
    result = {"retrieval_map": _retrieval_map(similarity, _jaccard(shared, size), other)}
    squared = 2 - 2 * similarity
    positives = other & (shared > 0)
    if positives.any():
        result["alignment"] = float(np.mean(squared[positives]))
    result["uniformity"] = float(np.log(np.mean(np.exp(-2 * squared[other]))))
    for name, pairs in relations(shared, size).items():
        if (pairs & other).any():
            result[f"similarity_{name}"] = float(np.mean(similarity[pairs & other]))
    return {name: value for name, value in result.items() if np.isfinite(value)}


def relations(shared: Ints, size: Ints) -> dict[str, NDArray[np.bool_]]:
    """The five relations of the label sets of an anchor (row) and a sample (column), as (N, N) masks.

    shared (N, N): labels in common; size (N,): labels of each. Two empty sets are equal.
    """
    anchor, sample = size[:, None], size[None, :]
    equal = (shared == anchor) & (shared == sample)
    subset = (shared == sample) & ~equal & (shared > 0)
    superset = (shared == anchor) & ~equal & (shared > 0)
    return {
        "disjoint": (shared == 0) & ~equal,
        "overlap": (shared > 0) & ~equal & ~subset & ~superset,
        "subset": subset,
        "superset": superset,
        "equal": equal,
    }


def _jaccard(shared: Ints, size: Ints) -> NDArray[np.float64]:
    union = size[:, None] + size[None, :] - shared
    return np.divide(shared, union, out=np.zeros(shared.shape), where=union > 0)


def _retrieval_map(similarity: Floats, relevance: NDArray[np.float64], other: NDArray[np.bool_]) -> float:
    """Average precision with graded relevance: the mean relevance up to each rank, weighted by the relevance at it.

    The mean over the queries that have relevant rows; NaN if there are none.
    """
    ranked = np.where(other, -similarity, np.inf)
    order = np.argsort(ranked, axis=1, kind="stable")[:, :-1]
    gains = np.take_along_axis(relevance, order, axis=1)
    precision = np.cumsum(gains, axis=1) / np.arange(1, gains.shape[1] + 1)
    total = gains.sum(axis=1)
    has_relevant = total > 0
    if not has_relevant.any():
        return float("nan")
    return float(np.mean((precision * gains).sum(axis=1)[has_relevant] / total[has_relevant]))


def _checked(labels: ArrayLike, embeddings: ArrayLike) -> tuple[Ints, Floats]:
    y, z = np.asarray(labels).astype(np.int64), np.asarray(embeddings, dtype=np.float32)
    if y.ndim != 2 or z.ndim != 2 or len(y) != len(z) or y.size == 0:
        raise MetricsError(f"labels (N, L) and embeddings (N, D) do not fit: {y.shape} and {z.shape}")
    if not np.isfinite(z).all():
        row: Any = np.flatnonzero(~np.isfinite(z).all(axis=1))[0]
        raise MetricsError(f"embeddings must be finite; the first row that is not: {row}")
    z = z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)
    whole = (y != UNKNOWN).all(axis=1)
    return (y, z) if whole.all() else (y[whole], z[whole])
