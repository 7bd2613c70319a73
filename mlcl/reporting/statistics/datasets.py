"""Over datasets: mean ranks, Friedman with Nemenyi or Wilcoxon-Holm, probability of improvement (Demsar 2006)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import inf, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from mlcl.reporting.statistics import ALPHA


@dataclass(frozen=True)
class Ranking:
    """Methods compared over datasets on which all of them have a complete result.

    `ranks`: mean rank of each method, 1 is best, ties share; `p_value`: Friedman's test that all are alike, None
    where it cannot be made (fewer than 3 methods or 2 datasets, or no difference at all);
    `critical_difference`: Nemenyi's; `wilcoxon`: p-values of pairs, adjusted by Holm.
    """

    methods: tuple[str, ...]
    datasets: tuple[str, ...]
    ranks: dict[str, float]
    p_value: float | None
    critical_difference: float
    wilcoxon: dict[tuple[str, str], float]

    @property
    def order(self) -> list[str]:
        return sorted(self.methods, key=self.ranks.__getitem__)

    def groups(self) -> list[tuple[str, ...]]:
        """Largest runs of methods, in the order of ranks, that Nemenyi's test does not tell apart."""
        order = self.order
        runs: list[tuple[str, ...]] = []
        for i in range(len(order)):
            widest = self.ranks[order[i]] + self.critical_difference
            end = max(k for k in range(i, len(order)) if self.ranks[order[k]] <= widest)
            group = tuple(order[i : end + 1])
            if len(group) > 1 and not (runs and set(group) <= set(runs[-1])):
                runs.append(group)
        return runs


def rank_methods(scores: Mapping[str, Mapping[str, float]], higher_is_better: bool = True) -> Ranking | None:
    """scores: method -> dataset -> value. Datasets that any method lacks take no part; None if none is left, or
    there are fewer than two methods."""
    methods = tuple(scores)
    if len(methods) < 2:
        return None
    shared = [d for d in scores[methods[0]] if all(d in scores[method] for method in methods)]
    if not shared:
        return None
    table = np.array([[scores[method][d] for method in methods] for d in shared])
    ranks = stats.rankdata(-table if higher_is_better else table, axis=1).mean(axis=0)
    return Ranking(
        methods=methods,
        datasets=tuple(shared),
        ranks=dict(zip(methods, ranks.tolist(), strict=True)),
        p_value=_friedman(table),
        critical_difference=critical_difference(len(methods), len(shared)),
        wilcoxon=_wilcoxon_holm(table, methods),
    )


def critical_difference(methods: int, datasets: int, alpha: float = ALPHA) -> float:
    """Nemenyi: mean ranks that are further apart than this differ."""
    q = float(stats.studentized_range.ppf(1 - alpha, methods, inf)) / sqrt(2)
    return q * sqrt(methods * (methods + 1) / (6 * datasets))


def _friedman(table: NDArray[np.float64]) -> float | None:
    if table.shape[1] < 3 or table.shape[0] < 2 or np.ptp(table, axis=1).max() == 0:
        return None
    return float(stats.friedmanchisquare(*table.T).pvalue)


def _wilcoxon_holm(table: NDArray[np.float64], methods: Sequence[str]) -> dict[tuple[str, str], float]:
    pairs = list(combinations(range(len(methods)), 2))
    raw = [_wilcoxon(table[:, a] - table[:, b]) for a, b in pairs]
    names = [(methods[a], methods[b]) for a, b in pairs]
    return dict(zip(names, holm(raw), strict=True))


def _wilcoxon(differences: NDArray[np.float64]) -> float:
    if not differences.any():
        return 1.0
    return float(stats.wilcoxon(differences).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted for their number, step by step from the smallest (Holm 1979)."""
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(p_values))
    steps = np.asarray(p_values, dtype=float)[order] * np.arange(len(p_values), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(p) for p in adjusted]


def probability_of_improvement(
    a: Sequence[float], b: Sequence[float], higher_is_better: bool = True
) -> float:
    """P(a run of `a` is better than a run of `b`) on one dataset, ties counting half.

    a, b: the values of the runs. Over datasets, Agarwal et al. (2021) take the mean.
    """
    gaps = np.subtract.outer(np.asarray(a), np.asarray(b)) * (1 if higher_is_better else -1)
    return float(np.mean(gaps > 0) + 0.5 * np.mean(gaps == 0))
