"""Each label for itself: precision, recall and F1 of its decisions; and which labels are taken for which."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


class Decisions(NamedTuple):
    """(L,) each. Recall and F1 are NaN for a label without a positive; precision is 0 where nothing was predicted.

    So the means over the labels that have a positive are the metrics CP, CR and macro-F1.
    """

    precision: Floats
    recall: Floats
    f1: Floats


def decisions_by_label(labels: Bools, predicted: Bools) -> Decisions:
    """labels, predicted (N, L)."""
    hits, positives, guesses = ((labels & predicted).sum(0), labels.sum(0), predicted.sum(0))
    there = positives > 0
    return Decisions(
        np.where(there, hits / np.maximum(guesses, 1), np.nan),
        np.where(there, hits / np.maximum(positives, 1), np.nan),
        np.where(there, 2 * hits / np.maximum(guesses + positives, 1), np.nan),
    )


def confusion_of_labels(labels: Bools, predicted: Bools) -> Floats:
    """(L, L + 1) in place of which labels others are predicted; labels, predicted (N, L).

    Row i sums to the number of rows with label i: those in which it is predicted, on the diagonal; those in which it
    is missed, shared in equal parts among the labels j that are predicted there wrongly, as Krstinić et al. do (2020,
    doi:10.5121/csit.2020.100801); and those in which it is missed and nothing is predicted wrongly, in the last column,
    as in the multi-label confusion matrix (MLCM) of Heydarian et al. (IEEE Access 2022), which counts each pair of a
    missed label and a wrong one as a whole. Where no label is missed, both pair wrong predictions with the labels that
    are found; here they are no confusion, and lower precision.
    """
    missed, wrong = (labels & ~predicted).astype(np.float64), (predicted & ~labels).astype(np.float64)
    number = wrong.sum(axis=1)
    shared = missed.T @ (wrong / np.maximum(number, 1)[:, None])
    shared[np.diag_indices(len(shared))] = (labels & predicted).sum(axis=0)
    return np.column_stack([shared, missed[number == 0].sum(axis=0)])
