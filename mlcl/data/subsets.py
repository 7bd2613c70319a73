"""Smaller training sets: nested, seeded subsets of a split."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from data_prep import DataError
from mlcl.suggest import closest

if TYPE_CHECKING:
    from mlcl.data.dataset import Split

Sampling = Literal["random", "stratified"]
SAMPLINGS = ("random", "stratified")
MIN_ROWS_TO_STRATIFY = 16


def subset(split: Split, fraction: float, sampling: Sampling = "random", seed: int = 0) -> np.ndarray:
    """Row indices of a subset, sorted, int64.

    For the same split, sampling and seed, smaller subsets are part of larger ones.

    Args:
        fraction: share of the rows to keep, in (0, 1]; at least one row is kept.
        sampling: `random` (uniform, as in the comprehensive study's code) or `stratified` (iterative stratification,
            Sechidis et al. 2011, which keeps the labels' frequencies).
        seed: of the draw.

    Raises:
        DataError: a fraction outside (0, 1], or an unknown sampling.
    """
    if not 0 < fraction <= 1:
        raise DataError(f"fraction must be above 0 and at most 1, got {fraction!r}")
    if sampling not in SAMPLINGS:
        raise DataError(f"unknown sampling {sampling!r}: {closest(str(sampling), SAMPLINGS)}")
    wanted = max(round(fraction * len(split)), 1)
    if wanted == len(split):
        return np.arange(len(split))
    rows = np.random.default_rng([seed, 7]).permutation(len(split))
    if sampling == "stratified":
        rows = _stratified(rows, split.dense_labels() == 1, wanted, seed)
    return np.sort(rows[:wanted])


def _stratified(rows: np.ndarray, labels: np.ndarray, wanted: int, seed: int) -> np.ndarray:
    """`wanted` of the rows, with label frequencies like those of all rows.

    Bisection: rows are split in halves by iterative stratification; whole halves are taken, and the half in which the
    count is reached is split again. The halves do not depend on `wanted`, which makes subsets nested.
    """
    chosen: list[np.ndarray] = []
    while wanted > 0 and len(rows) >= MIN_ROWS_TO_STRATIFY:
        first, second = _halves(rows, labels, seed)
        if wanted < len(first):
            rows = first
        else:
            chosen.append(first)
            wanted -= len(first)
            rows = second
    return np.concatenate([*chosen, rows[:wanted]])


def _halves(rows: np.ndarray, labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    from iterstrat.ml_stratifiers import MultilabelStratifiedKFold

    folds = MultilabelStratifiedKFold(n_splits=2, shuffle=True, random_state=seed)
    second, first = next(folds.split(rows, labels[rows]))
    return rows[first], rows[second]
