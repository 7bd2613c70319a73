"""Metrics of multi-label classification from scores. Plain numpy; every definition stands in docs/metrics.md.

Two conventions hold everywhere. A label without a positive in the split takes no part in averages over labels,
and a row without labels takes no part in averages of rankings: there is nothing to find. A metric that nothing
is left for is left out of the result. Where a label of a row is unknown (-1), metrics of labels and of pooled pairs
leave out this pair, and metrics of rows the row. Ties are never broken by the order of rows or labels: a ranking
metric is the expectation over all orders of the tied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlcl.errors import MlclError

Bools = NDArray[np.bool_]
Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]

UNKNOWN = -1
"""A label of which nothing is known."""
THRESHOLD = 0.5
KMCL_THRESHOLD = 0.8
"""At which KMCL's code decides (arXiv 2307.03967): the metrics `*_at_80`."""
TOP = (1, 3, 5)
ECE_BINS = 15
SET_SIZES: Mapping[str, tuple[int, float]] = {"1": (1, 1), "2_3": (2, 3), "4_up": (4, np.inf)}
"""Bands of label-set sizes, both ends included."""
BLOCK = 4_000_000
"""Entries of a temporary array: what keeps memory flat however many rows there are."""


class MetricsError(MlclError):
    """Scores or labels that no metric is defined for."""


def evaluate(labels: ArrayLike, scores: ArrayLike, thresholds: ArrayLike = THRESHOLD) -> dict[str, float]:
    """All metrics of one split that need nothing but its labels and scores.

    labels (N, L): 0 or 1, -1 where unknown. scores (N, L): probabilities. thresholds: one, or one a label (L,); a label
    is predicted where its score lies above. Raises MetricsError for other shapes, other labels, only unknown ones,
    and scores that are not finite or not in [0, 1].
    """
    return _evaluate(_Split.of(labels, scores), np.asarray(thresholds))


def evaluate_splits(
    val: tuple[ArrayLike, ArrayLike],
    test: tuple[ArrayLike, ArrayLike],
    train_counts: Sequence[int] | None = None,
    train_examples: int | None = None,
) -> dict[str, dict[str, float]]:
    """The metrics of both splits, each given as (labels, scores), with those that need more than one split.

    On test these are the decisions at per-label thresholds tuned on validation (`*_tuned`) and on test itself
    (`*_oracle`: an upper bound, never a result), and at the fixed threshold of KMCL (`*_at_80`). With
    `train_counts` (L,), the positives of each label in training, both splits have metrics by label frequency and,
    with the number of training rows, propensity-scored precision.
    """
    splits = {"val": _Split.of(*val), "test": _Split.of(*test)}
    result = {name: _evaluate(split, np.asarray(THRESHOLD)) for name, split in splits.items()}
    on_test = splits["test"]
    thresholds = {
        "tuned": _best_thresholds(splits["val"]),
        "oracle": _best_thresholds(on_test),
        "at_80": np.asarray(KMCL_THRESHOLD),
    }
    for name, threshold in thresholds.items():
        decided = _decisions(on_test, threshold)
        result["test"] |= {f"{metric}_{name}": value for metric, value in decided.items()}
    if train_counts is not None:
        counts = np.asarray(train_counts)
        for name, split in splits.items():
            result[name] |= _frequency_bands(split, counts)
            if train_examples:
                result[name] |= _propensity_scored(split.whole, counts, train_examples)
    return result


def mean_average_precision(labels: ArrayLike, scores: ArrayLike) -> float | None:
    """mAP alone, over the labels that have a positive; None where none has. Raises as `evaluate` does."""
    averages = _Split.of(labels, scores).average_precisions
    return _mean(list(averages.values())) if averages else None


def average_precisions(labels: ArrayLike, scores: ArrayLike) -> Floats:
    """(L,) the average precision of each label; NaN for a label without a positive. Raises as `evaluate` does."""
    split = _Split.of(labels, scores)
    result = np.full(split.y.shape[1], np.nan)
    result[list(split.average_precisions)] = list(split.average_precisions.values())
    return result


def best_thresholds(labels: ArrayLike, scores: ArrayLike) -> Floats:
    """(L,) for each label the threshold with the highest F1; THRESHOLD for a label without a positive.

    A threshold lies halfway to the next lower score. Among equally good ones the highest is taken.
    """
    return _best_thresholds(_Split.of(labels, scores))


def _evaluate(split: _Split, thresholds: NDArray[Any]) -> dict[str, float]:
    whole = split.whole
    return (
        _decisions(split, thresholds)
        | _top_decisions(whole.y, whole.p)
        | _label_rankings(split)
        | _row_rankings(whole)
        | _set_size_bands(whole)
        | {"ece": _expected_calibration_error(split)}
    )


def _best_thresholds(split: _Split) -> Floats:
    p = split.p
    thresholds = np.full(p.shape[1], THRESHOLD, dtype=p.dtype)
    for label, ranking in split.rankings.items():
        f1 = 2 * ranking.positives_above / (ranking.rows_above + ranking.positives)
        best = np.flatnonzero(f1 == f1.max())[-1]
        rank = ranking.rows_above[best]
        score = ranking.ascending[-rank]
        below = ranking.ascending[-rank - 1] if rank < len(ranking.ascending) else p.dtype.type(0)
        midpoint = (score + below) / 2
        thresholds[label] = midpoint if midpoint < score else below
    return thresholds


@dataclass(frozen=True)
class _Split:
    """Labels and scores of a split, checked, and the rankings that several metrics share."""

    y: Bools
    """False where the label is unknown."""
    p: Floats
    known: Bools | None = None
    """None where all labels are known."""

    @classmethod
    def of(cls, labels: ArrayLike, scores: ArrayLike) -> _Split:
        return cls(*_checked(labels, scores))

    def part(self, rows: NDArray[Any]) -> _Split:
        """Rows of which all labels are known."""
        return _Split(self.y[rows], self.p[rows])

    @cached_property
    def whole(self) -> _Split:
        """The rows of which all labels are known."""
        return self if self.known is None else self.part(np.flatnonzero(self.known.all(axis=1)))

    def predicted(self, thresholds: NDArray[Any] | float) -> Bools:
        """(N, L) False where the label is unknown, so that counts of hits and predictions are those of known pairs."""
        above: Bools = self.p > thresholds
        return above if self.known is None else above & self.known

    def pairs(self, rows: slice = slice(None)) -> tuple[Bools, Floats]:
        """Labels and scores of the known pairs (row, label) of these rows, one after the other."""
        y, p = self.y[rows], self.p[rows]
        if self.known is None:
            return y.ravel(), p.ravel()
        return y[self.known[rows]], p[self.known[rows]]

    @cached_property
    def rankings(self) -> dict[int, _Ranking]:
        """label -> its ranking of the rows that know it, for the labels that have a positive."""
        if self.known is not None:
            columns = enumerate(zip(self.y.T, self.known.T, self.p.T, strict=True))
            return {
                label: _Ranking(np.sort(p[known]), np.sort(p[y]))
                for label, (y, known, p) in columns
                if y.any()
            }
        y, p = np.ascontiguousarray(self.y.T), np.ascontiguousarray(self.p.T)
        ascending, positives = np.sort(p, axis=1), p[y]
        ends = np.cumsum(_count(y, 1)).tolist()
        return {
            label: _Ranking(ascending[label], np.sort(positives[start:end]))
            for label, (start, end) in enumerate(zip([0, *ends], ends, strict=False))
            if end > start
        }

    @cached_property
    def average_precisions(self) -> dict[int, float]:
        return {label: ranking.average_precision() for label, ranking in self.rankings.items()}

    @cached_property
    def places(self) -> _Places:
        return _Places.of(self.y, self.p)


# --- Decisions: what is predicted, and what is there ---------------------------------------------------------


def _decisions(split: _Split, thresholds: NDArray[Any]) -> dict[str, float]:
    """F1 in its averages, precision and recall per label (CP, CR) and overall (OP, OR), Hamming, exact match."""
    y, predicted = split.y, split.predicted(thresholds)
    hit = y & predicted
    errors, known = np.count_nonzero(y ^ predicted), split.known
    result = {"hamming_loss": float(errors / (y.size if known is None else np.count_nonzero(known)))}
    whole: Any = slice(None) if known is None else known.all(axis=1)
    if len(y[whole]):
        result |= _decisions_of_rows(y[whole], predicted[whole], hit[whole])
    true, positives, guessed = _count(hit, 0), _count(y, 0), _count(predicted, 0)
    there = positives > 0
    if there.any():
        per_label = _f1(true, positives, guessed, undefined=0.0)[there]
        result |= {
            "micro_f1": _mean(_f1(true.sum(), positives.sum(), guessed.sum(), undefined=0.0)),
            "macro_f1": _mean(per_label),
            "macro_f1_all_labels": float(per_label.sum() / len(there)),
            "weighted_f1": float(np.average(per_label, weights=positives[there])),
            **_precision_recall(true, positives, guessed),
        }
    return result


def _decisions_of_rows(y: Bools, predicted: Bools, hit: Bools) -> dict[str, float]:
    return {
        "subset_accuracy": float(np.mean((y == predicted).all(axis=1))),
        "samples_f1": _mean(_f1(_count(hit, 1), _count(y, 1), _count(predicted, 1), undefined=1.0)),
    }


def _precision_recall(true: Ints, positives: Ints, guessed: Ints) -> dict[str, float]:
    """CP, CR: means over the labels that have a positive. CF1, the second macro-F1, is their harmonic mean."""
    there = positives > 0
    cp = _mean(_ratio(true, guessed)[there])
    cr = _mean(_ratio(true, positives)[there])
    op = float(_ratio(true.sum(), guessed.sum()))
    or_ = float(_ratio(true.sum(), positives.sum()))
    return {
        "cp": cp,
        "cr": cr,
        "cf1": float(_ratio(2 * cp * cr, cp + cr)),
        "op": op,
        "or": or_,
        "of1": float(_ratio(2 * op * or_, op + or_)),
    }


def _top_decisions(y: Bools, p: Floats, k: int = 3) -> dict[str, float]:
    """CP ... OF1 where the k labels with the highest scores are predicted, and those tied with the k-th."""
    if y.shape[1] <= k or not y.any():
        return {}
    kth = np.partition(p, -k, axis=1)[:, -k]
    predicted = p >= kth[:, None]
    result = _precision_recall(_count(y & predicted, 0), _count(y, 0), _count(predicted, 0))
    return {f"{metric}_top{k}": value for metric, value in result.items()}


def _f1_of_labels(y: Bools, predicted: Bools) -> Floats:
    return _f1(_count(y & predicted, 0), _count(y, 0), _count(predicted, 0), undefined=0.0)


def _f1(true: Any, positives: Any, guessed: Any, undefined: float) -> Floats:
    """2 TP / (positives + predicted); `undefined` where nothing is there and nothing was predicted."""
    total = np.asarray(positives + guessed)
    return np.where(total > 0, 2 * true / np.maximum(total, 1), undefined)


# --- Rankings of rows, one for each label, and one of all pairs ----------------------------------------------


@dataclass(frozen=True)
class _Ranking:
    """Rows ranked by score, seen from the positives in ascending order of their scores; "above" includes ties."""

    ascending: Floats
    """All scores."""
    positive_scores: Floats
    """The scores of the positives."""

    @property
    def positives(self) -> int:
        return len(self.positive_scores)

    @property
    def negatives(self) -> int:
        return len(self.ascending) - len(self.positive_scores)

    @cached_property
    def rows_above(self) -> Ints:
        return len(self.ascending) - np.searchsorted(self.ascending, self.positive_scores, side="left")

    @cached_property
    def positives_above(self) -> Ints:
        return len(self.positive_scores) - np.searchsorted(
            self.positive_scores, self.positive_scores, side="left"
        )

    def average_precision(self) -> float:
        return _mean(self.positives_above / self.rows_above)

    def auc(self) -> float:
        """Probability that a positive has a higher score than a negative; ties count half."""
        higher = len(self.ascending) - np.searchsorted(self.ascending, self.positive_scores, side="right")
        higher -= len(self.positive_scores) - np.searchsorted(
            self.positive_scores, self.positive_scores, side="right"
        )
        beaten = self.negatives - (self.rows_above - self.positives_above + higher) / 2
        return _mean(beaten) / self.negatives


def _label_rankings(split: _Split) -> dict[str, float]:
    """mAP and AUC: macro over the labels that have a positive (AUC: a negative, too), micro over all pairs."""
    if not split.rankings:
        return {}
    pooled = _Ranking(np.sort(split.pairs()[1]), np.sort(split.p[split.y]))
    result = {
        "map": _mean(list(split.average_precisions.values())),
        "micro_map": pooled.average_precision(),
    }
    if areas := [ranking.auc() for ranking in split.rankings.values() if ranking.negatives]:
        result |= {"macro_auc": _mean(areas), "micro_auc": pooled.auc()}
    return result


# --- Rankings of labels, one for each row --------------------------------------------------------------------


@dataclass(frozen=True)
class _Places:
    """Where each pair (row, label of the row) stands among the labels of its row."""

    row: Ints
    label: Ints
    above: Ints
    """Labels with a higher score."""
    tied: Ints
    """Labels with the same score, itself included."""
    true_above: Ints
    """Labels of the row with a score as high or higher, itself included."""

    @classmethod
    def of(cls, y: Bools, p: Floats) -> _Places:
        row, label = np.nonzero(y)
        parts = [_compare(y, p, row[part], label[part]) for part in _parts(len(row), y.shape[1])]
        above, tied, true_above = (np.concatenate(counts) for counts in zip(*parts, strict=True))
        return cls(row, label, above, tied, true_above)

    def share_of_gain(self, gains: NDArray[np.float64]) -> NDArray[np.float64]:
        """The gain of a place, averaged over the places that the tied labels share. gains: one for each place."""
        until = np.concatenate([np.zeros(1), np.cumsum(gains)])
        return (until[self.above + self.tied] - until[self.above]) / self.tied


def _compare(y: Bools, p: Floats, row: Ints, label: Ints) -> tuple[Ints, Ints, Ints]:
    scores, own = p[row], p[row, label][:, None]
    as_high = scores >= own
    above = _count(scores > own, 1)
    return above, _count(as_high, 1) - above, _count(as_high & y[row], 1)


def _row_rankings(split: _Split) -> dict[str, float]:
    """LRAP, coverage error, ranking loss, one-error, P@k, R@k, nDCG@k: means over the rows that have a label."""
    y = split.y
    if not y.any():
        return {}
    sizes = _count(y, 1)
    there = sizes > 0
    n, size = len(y), sizes[there]
    places = split.places

    def per_row(values: NDArray[Any]) -> NDArray[Any]:
        return np.bincount(places.row, weights=values, minlength=n)[there]

    depth = places.above + places.tied
    deepest = np.zeros(n)
    np.maximum.at(deepest, places.row, depth)
    wrong = per_row(depth - places.true_above)
    result = {
        "lrap": _mean(per_row(places.true_above / depth) / size),
        "coverage_error": _mean(deepest[there]),
        "ranking_loss": _mean(wrong / np.maximum(size * (y.shape[1] - size), 1)),
    }
    for k in TOP:
        if k > y.shape[1]:
            continue
        in_top = (np.arange(y.shape[1]) < k).astype(float)
        discount = in_top / np.log2(np.arange(y.shape[1]) + 2)
        hits = per_row(places.share_of_gain(in_top))
        ideal = np.cumsum(discount)[size - 1]
        result[f"p_at_{k}"] = _mean(hits) / k
        result[f"r_at_{k}"] = _mean(hits / size)
        result[f"ndcg_at_{k}"] = _mean(per_row(places.share_of_gain(discount)) / ideal)
    result["one_error"] = 1 - result["p_at_1"]
    return result


def _propensity_scored(split: _Split, counts: Ints, examples: int) -> dict[str, float]:
    """PSP@k (Jain et al. 2016, A = 0.55, B = 1.5) as a fraction of the best that can be reached."""
    a, b = 0.55, 1.5
    c = (np.log(examples) - 1) * (b + 1) ** a
    weights = 1 + c * np.exp(-a * np.log(counts + b))
    if not split.y.any():
        return {}
    y, places = split.y, split.places
    gains_of_rows = np.sort(np.where(y, weights, 0.0), axis=1)[:, ::-1]
    result = {}
    for k in TOP:
        if k > y.shape[1]:
            continue
        in_top = (np.arange(y.shape[1]) < k).astype(float)
        reached = np.sum(places.share_of_gain(in_top) * weights[places.label])
        result[f"psp_at_{k}"] = float(reached / gains_of_rows[:, :k].sum())
    return result


# --- Parts of a split ----------------------------------------------------------------------------------------


def frequency_bands(train_counts: ArrayLike) -> dict[str, Ints]:
    """Labels by their frequency in training: `head` the most frequent third, `medium`, `tail`; needs 3 labels."""
    counts = np.asarray(train_counts)
    if len(counts) < 3:
        return {}
    order = np.argsort(-counts, kind="stable")
    return dict(zip(("head", "medium", "tail"), np.array_split(order, 3), strict=True))


def _frequency_bands(split: _Split, train_counts: Ints) -> dict[str, float]:
    if train_counts.shape != (split.y.shape[1],):
        raise MetricsError(
            f"train_counts: one for each of the {split.y.shape[1]} labels, not shape {train_counts.shape}"
        )
    f1 = _f1_of_labels(split.y, split.predicted(THRESHOLD))
    result = {}
    for name, labels in frequency_bands(train_counts).items():
        if there := [label for label in labels.tolist() if label in split.rankings]:
            result[f"macro_f1_{name}"] = _mean(f1[there])
            result[f"map_{name}"] = _mean([split.average_precisions[label] for label in there])
    return result


def _set_size_bands(split: _Split) -> dict[str, float]:
    sizes = _count(split.y, 1)
    result = {}
    for name, (low, high) in SET_SIZES.items():
        part = split.part((sizes >= low) & (sizes <= high))
        if part.rankings:
            f1 = _f1_of_labels(part.y, part.p > THRESHOLD)
            result[f"macro_f1_size_{name}"] = _mean(f1[list(part.rankings)])
            result[f"map_size_{name}"] = _mean(list(part.average_precisions.values()))
    return result


def _expected_calibration_error(split: _Split) -> float:
    """Mean distance of score and frequency over all known pairs, in bins of equal width."""
    gaps, number = np.zeros(ECE_BINS), 0
    for rows in _parts(*split.y.shape):
        y, p = split.pairs(rows)
        bins = np.minimum((p * ECE_BINS).astype(np.int64), ECE_BINS - 1)
        gaps += np.bincount(bins, weights=p, minlength=ECE_BINS)
        gaps -= np.bincount(bins[y], minlength=ECE_BINS)
        number += len(y)
    return float(np.abs(gaps).sum() / number)


# --- Small things --------------------------------------------------------------------------------------------


def _checked(labels: ArrayLike, scores: ArrayLike) -> tuple[Bools, Floats, Bools | None]:
    """Labels, scores, and which labels are known, None for all."""
    given, p = np.asarray(labels), np.asarray(scores)
    if given.ndim != 2 or given.shape != p.shape or given.size == 0:
        raise MetricsError(
            f"labels and scores must both be (rows, labels) and not empty, not {given.shape} and {p.shape}"
        )
    y, known = given.astype(np.bool_), None
    if given.dtype != np.bool_ and not np.array_equal(given, y):
        y, known = given == 1, given != UNKNOWN
        if np.any(given[known] != y[known]):
            raise MetricsError("labels must be 0 or 1, or -1 where they are unknown")
        if not known.any():
            raise MetricsError("no label is known")
    if p.dtype not in (np.float32, np.float64):
        p = p.astype(np.float32)
    lowest, highest = p.min(), p.max()
    if not (lowest >= 0 and highest <= 1):
        row = int(np.flatnonzero(~((p >= 0) & (p <= 1)).all(axis=1))[0])
        raise MetricsError(
            f"scores must be probabilities, finite and in [0, 1]; the first row that is not: {row}"
        )
    return y, p, known


def _parts(length: int, width: int) -> list[slice]:
    """Slices of `length` rows of `width` entries, each with at most BLOCK entries."""
    step = max(1, BLOCK // width)
    return [slice(start, start + step) for start in range(0, length, step)]


def _count(mask: Bools, axis: int) -> Ints:
    """A product with ones is exact, and several times faster than counting along an axis, as long as memory allows."""
    if mask.size > BLOCK:
        return np.count_nonzero(mask, axis=axis)
    numbers, ones = mask.astype(np.float64), np.ones(mask.shape[axis])
    return (ones @ numbers if axis == 0 else numbers @ ones).astype(np.int64)


def _ratio(part: Any, whole: Any) -> Floats:
    """0 where the whole is 0."""
    return np.divide(part, whole, out=np.zeros(np.shape(whole)), where=np.asarray(whole) > 0)


def _mean(values: Any) -> float:
    return float(np.mean(values))
