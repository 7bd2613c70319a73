"""Over seeds: intervals of means, of differences and other contrasts of means, effect sizes.

Seeds are few, so everything rests on Student's t, not on resampling. What varies between seeds is training
(initial weights, order of batches, subset), not the test examples: for these see `examples`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite, nan, sqrt
from statistics import fmean, variance

from scipy.stats import t as student

from mlcl.reporting.statistics import CONFIDENCE

Part = tuple[float, Sequence[float]]
"""A weight, and the values of independent runs."""


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
    """The mean with its t-interval."""
    return contrast([(1.0, values)], confidence)


def contrast(parts: Sequence[Part], confidence: float = CONFIDENCE) -> Estimate:
    """A weighted sum of means with its t-interval.

    The parts may differ in spread: degrees of freedom by Welch and Satterthwaite. A part of a single run has no
    known spread, and so has the contrast, unless its weight is 0.
    """
    value = sum(weight * fmean(values) for weight, values in parts)
    error, freedom = _standard_error(parts)
    half = float(student.ppf((1 + confidence) / 2, freedom)) * error if 0 < error < inf else error
    return Estimate(value, value - half, value + half)


def welch_p_value(a: Sequence[float], b: Sequence[float]) -> float:
    """Two-sided p-value that the means of two samples of two or more runs each are equal (Welch's t-test)."""
    gap = abs(fmean(a) - fmean(b))
    error, freedom = _standard_error([(1.0, a), (-1.0, b)])
    if error == 0:
        return 0.0 if gap else 1.0
    return float(2 * student.sf(gap / error, freedom))


def _standard_error(parts: Sequence[Part]) -> tuple[float, float]:
    """Of a weighted sum of means, and its degrees of freedom; infinite where a part has a single run."""
    terms = []
    for weight, values in parts:
        if weight == 0:
            continue
        if len(values) < 2:
            return inf, nan
        terms.append((weight**2 * variance(values) / len(values), len(values) - 1))
    total = sum(term for term, _ in terms)
    if total == 0:
        return 0.0, nan
    return sqrt(total), total**2 / sum(term**2 / df for term, df in terms)


def cliffs_delta(a: Sequence[float], b: Sequence[float]) -> float:
    """P(a > b) - P(a < b) for a run of each, drawn at random: from -1 to 1, and free of any scale."""
    above = sum(x > y for x in a for y in b)
    below = sum(x < y for x in a for y in b)
    return (above - below) / (len(a) * len(b))
