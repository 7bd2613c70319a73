"""Over seeds: intervals of means, Welch's test, effect sizes.

Seeds are few, so everything rests on Student's t. What varies between seeds is training (initial weights, order of
batches, subset), not the test examples: for both see `contrast`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite, sqrt
from statistics import fmean, variance

from scipy import stats

from mlcl.reporting.statistics import CONFIDENCE


@dataclass(frozen=True)
class Estimate:
    """A value with its interval; the interval is infinite where nothing is known of the spread."""

    value: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2

    @property
    def is_known(self) -> bool:
        return isfinite(self.low) and isfinite(self.high)

    def scaled(self, factor: float) -> Estimate:
        low, high = sorted((self.low * factor, self.high * factor))
        return Estimate(self.value * factor, low, high)


def mean_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Estimate:
    """The mean with its t-interval over seeds."""
    mean, n = fmean(values), len(values)
    if n < 2:
        return Estimate(mean, -inf, inf)
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * sqrt(variance(values) / n)
    return Estimate(mean, mean - half, mean + half)


def welch_p_value(a: Sequence[float], b: Sequence[float]) -> float:
    """Two-sided p-value that the means of two samples of two or more runs each are equal (Welch's t-test)."""
    if variance(a) == variance(b) == 0:
        return 1.0 if fmean(a) == fmean(b) else 0.0
    return float(stats.ttest_ind(a, b, equal_var=False).pvalue)


def cliffs_delta(a: Sequence[float], b: Sequence[float]) -> float:
    """P(a > b) - P(a < b) for a run of each, drawn at random: from -1 to 1, and free of any scale."""
    above = sum(x > y for x in a for y in b)
    below = sum(x < y for x in a for y in b)
    return (above - below) / (len(a) * len(b))
