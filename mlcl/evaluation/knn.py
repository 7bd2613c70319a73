"""kNN evaluation of frozen features: nothing is trained, the labels of the nearest training rows vote.

Similarity is the cosine. The probability of a label is its mean over the k nearest training rows, unweighted, or
weighted by exp(similarity / temperature) as in Wu, Xiong, Yu, Lin (Unsupervised Feature Learning via Non-parametric
Instance Discrimination, CVPR 2018; there the temperature is 0.07). `fit` chooses k from a list by micro-F1 on
validation at threshold 0.5 and returns `Neighbours`, with the interface of `mlcl.evaluation.linear.LinearHeads`.

Queries are processed in blocks, so memory does not grow with their number. The metrics `knn_*` of
`mlcl.evaluation.representation` are another thing: fixed k, neighbours from validation, numpy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from mlcl.evaluation.metrics import UNKNOWN, MetricsError

KS = (5, 10, 20, 50)
THRESHOLD = 0.5
BLOCK = 16_000_000
"""Largest number of entries of a temporary array."""


@dataclass(frozen=True)
class Neighbours:
    """Training rows that vote: l2-normalised features (N, D) and labels (N, L)."""

    features: torch.Tensor
    labels: torch.Tensor
    k: int
    temperature: float | None = None

    def probabilities(self, features: torch.Tensor) -> torch.Tensor:
        """Features (M, D) -> probabilities (M, L), float32 (float64 for features of that type)."""
        queries = _normalised(features)
        result = queries.new_empty(len(queries), self.labels.shape[1])
        for rows, similarity, nearest in _nearest(self.features, self.labels, queries, self.k):
            result[rows] = _votes(self.labels[nearest], similarity, self.temperature)
        return result

    def state(self) -> dict[str, torch.Tensor]:
        """All fields as tensors, ready to be stored."""
        state = {"features": self.features, "labels": self.labels, "k": torch.tensor(self.k)}
        if self.temperature is not None:
            state["temperature"] = torch.tensor(self.temperature, dtype=torch.float64)
        return state

    @classmethod
    def from_state(cls, state: dict[str, torch.Tensor]) -> Neighbours:
        """The inverse of `state`; raises MetricsError where a tensor is missing."""
        if missing := {"features", "labels", "k"} - set(state):
            raise MetricsError(f"not the state of a kNN evaluation: {', '.join(sorted(missing))} missing")
        temperature = float(state["temperature"]) if "temperature" in state else None
        return cls(state["features"], state["labels"], int(state["k"]), temperature)


def probabilities(
    train_features: torch.Tensor,
    train_labels: torch.Tensor,
    features: torch.Tensor,
    k: int,
    temperature: float | None = None,
) -> torch.Tensor:
    """Training rows (N, D) with labels (N, L), and features (M, D) -> probabilities (M, L).

    With fewer than k training rows all of them vote. Raises MetricsError for shapes that do not fit, no training
    rows, unknown labels, k < 1, a temperature that is not positive, and features that are not finite.
    """
    return _neighbours(train_features, train_labels, k, temperature).probabilities(features)


def fit(
    features: torch.Tensor,
    labels: torch.Tensor,
    val_features: torch.Tensor,
    val_labels: torch.Tensor,
    ks: Sequence[int] = KS,
    temperature: float | None = None,
) -> Neighbours:
    """Chooses k on validation by micro-F1 at threshold 0.5; of equals the smallest k.

    Features (N, D), labels (N, L); raises MetricsError as `probabilities` does, and for an empty `ks`.
    """
    if not ks:
        raise MetricsError("ks: at least one number of neighbours is needed")
    candidates = sorted({min(k, len(features)) for k in ks})
    training = _neighbours(features, labels, candidates[0], temperature)
    queries, truth = _normalised(val_features), val_labels.bool()
    # (ks, 2): true positives, and positives + predicted. They stay on the device until all blocks are done.
    counts = torch.zeros(len(candidates), 2, dtype=torch.int64, device=queries.device)
    for rows, similarity, nearest in _nearest(training.features, training.labels, queries, candidates[-1]):
        neighbour_labels = training.labels[nearest]
        for index, k in enumerate(candidates):
            predicted = _votes(neighbour_labels[:, :k], similarity[:, :k], temperature) > THRESHOLD
            counts[index, 0] += (predicted & truth[rows]).sum()
            counts[index, 1] += predicted.sum() + truth[rows].sum()
    hits, total = counts.double().T
    best = int((2 * hits / total.clamp(min=1)).argmax())
    return Neighbours(training.features, training.labels, candidates[best], temperature)


def _neighbours(
    features: torch.Tensor, labels: torch.Tensor, k: int, temperature: float | None
) -> Neighbours:
    if features.ndim != 2 or labels.ndim != 2 or len(features) != len(labels) or len(features) == 0:
        raise MetricsError(
            "kNN needs training features (N, D) and labels (N, L) with at least one row, "
            f"not {tuple(features.shape)} and {tuple(labels.shape)}"
        )
    if (labels == UNKNOWN).any():
        raise MetricsError("kNN needs all labels of the training rows; some are unknown (-1)")
    if k < 1:
        raise MetricsError(f"k: at least one neighbour is needed, not {k}")
    if temperature is not None and not temperature > 0:
        raise MetricsError(f"temperature must be positive, not {temperature}")
    return Neighbours(_normalised(features), labels, min(k, len(features)), temperature)


def _normalised(features: torch.Tensor) -> torch.Tensor:
    if not features.isfinite().all():
        row = int((~features.isfinite().all(dim=1)).nonzero()[0])
        raise MetricsError(f"features must be finite; the first row that is not: {row}")
    return F.normalize(features if features.dtype == torch.float64 else features.float(), dim=1)


def _nearest(
    features: torch.Tensor, labels: torch.Tensor, queries: torch.Tensor, k: int
) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor]]:
    """Blocks of rows of queries, with similarity (R, k) and index (R, k) of the nearest rows, nearest first."""
    if queries.ndim != 2 or queries.shape[1] != features.shape[1]:
        raise MetricsError(
            f"features (M, {features.shape[1]}) are needed, as in training, not {tuple(queries.shape)}"
        )
    step = max(1, BLOCK // max(len(features), k * labels.shape[1]))
    for start in range(0, len(queries), step):
        rows = slice(start, min(start + step, len(queries)))
        similarity, nearest = (queries[rows] @ features.T).topk(k, dim=1)
        yield rows, similarity, nearest


def _votes(labels: torch.Tensor, similarity: torch.Tensor, temperature: float | None) -> torch.Tensor:
    """Labels (R, k, L) of the neighbours and their similarity (R, k) -> weighted means (R, L)."""
    if temperature is None:
        return labels.sum(dim=1, dtype=similarity.dtype) / labels.shape[1]
    weights = torch.softmax(similarity / temperature, dim=1)
    return torch.einsum("rk,rkl->rl", weights, labels.to(weights.dtype)).clamp_(0, 1)
