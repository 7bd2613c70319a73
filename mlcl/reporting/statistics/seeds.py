"""Over seeds: intervals of means, of differences and other contrasts of means, effect sizes.

Seeds are few, so everything rests on Student's t, not on resampling. What varies between seeds is training
(initial weights, order of batches, subset), not the test examples: for these see `examples`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite, sqrt
from statistics import fmean, variance

from scipy.stats import t as student

CONFIDENCE = 0.95


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


def contrast(parts: Sequence[tuple[float, Sequence[float]]], confidence: float = CONFIDENCE) -> Estimate:
    """A weighted sum of means with its t-interval; parts: (weight, the values of independent runs).

    The parts may differ in spread: degrees of freedom by Welch and Satterthwaite. A part of a single run has no
    known spread, and so has the contrast, unless the weight is 0.
    """
    value = sum(weight * fmean(values) for weight, values in parts)
    terms = []
    for weight, values in parts:
        if weight == 0:
            continue
        if len(values) < 2:
            return Estimate(value, -inf, inf)
        terms.append((weight**2 * variance(values) / len(values), len(values) - 1))
    total = sum(term for term, _ in terms)
    if total == 0:
        return Estimate(value, value, value)
    freedom = total**2 / sum(term**2 / df for term, df in terms)
    half = float(student.ppf((1 + confidence) / 2, freedom)) * sqrt(total)
    return Estimate(value, value - half, value + half)


def cliffs_delta(a: Sequence[float], b: Sequence[float]) -> float:
    """P(a > b) - P(a < b) for a run of each, drawn at random: from -1 to 1, and free of any scale."""
    above = sum(x > y for x in a for y in b)
    below = sum(x < y for x in a for y in b)
    return (above - below) / (len(a) * len(b))
