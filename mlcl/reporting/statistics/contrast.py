"""Over seeds and test examples at once: a weighted sum of mean metrics, with its variance and interval.

A statement about a loss is about training it anew and about other examples of the same kind. With X the test
examples, the law of total variance splits the variance of a contrast D (a weighted sum of means over seeds):

    Var(D) = E[Var(D | X)] + Var(E[D | X])

- The first term is what varies between seeds on the same examples: sum over rows of w^2 s^2 / n, with s^2 the
  variance between the n seeds.
- The second term is the jackknife variance over examples of D (`examples`), less the part of it that is
  seed-by-example noise: that part averages out over seeds and is in the first term already. For one row it is the
  covariance over examples between *different* seeds.

With few seeds a variance is small by chance, and an interval too narrow, often enough to matter where many intervals
must hold together. So the first term is at least that of the mean variance over all losses of a column, which has more
degrees of freedom; a loss that varies more than the others keeps its own.

Intervals are Student's t with degrees of freedom by Welch and Satterthwaite; where several losses are compared with
one another, the studentised range takes the place of t (Games and Howell 1976).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import inf, isfinite, nan, pi, sqrt
from statistics import fmean, variance

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

from mlcl.reporting.statistics import CONFIDENCE
from mlcl.reporting.statistics.examples import covariance
from mlcl.reporting.statistics.seeds import Estimate


@dataclass(frozen=True)
class Pool:
    """The mean over losses of the variance between seeds, and its degrees of freedom."""

    variance: float
    freedom: float


@dataclass(frozen=True)
class Row:
    """A row of the grid in a contrast: its weight, the value of each seed, and for each seed its values without
    each group of examples, (seeds, groups), or None where they are not known."""

    weight: float
    values: Sequence[float]
    without_groups: NDArray[np.float64] | None
    pool: Pool | None = None
    """The variance between seeds of all losses of its column."""


@dataclass(frozen=True)
class Contrast:
    """A weighted sum of means over seeds, and its variance in two terms, each with its degrees of freedom.

    `seed_variance` is infinite where a row has a single seed; `example_variance` is NaN where it is not known.
    """

    value: float
    seed_variance: float
    seed_freedom: float
    example_variance: float
    example_freedom: float

    @property
    def covers_examples(self) -> bool:
        return isfinite(self.example_variance)

    @property
    def error(self) -> float:
        """The standard error; of seeds alone where the variance over examples is not known."""
        return sqrt(self.seed_variance + (self.example_variance if self.covers_examples else 0.0))

    @property
    def freedom(self) -> float:
        """Degrees of freedom of the standard error."""
        terms = [(self.seed_variance, self.seed_freedom)]
        if self.covers_examples:
            terms.append((self.example_variance, self.example_freedom))
        return _satterthwaite(terms)

    def interval(self, confidence: float = CONFIDENCE, methods: int = 2) -> Estimate:
        """The interval of the contrast; with `methods` > 2, of all pairwise differences among so many at once."""
        if not isfinite(self.error):
            return Estimate(self.value, -inf, inf)
        half = 0.0 if self.error == 0 else critical_value(self.freedom, confidence, methods) * self.error
        return Estimate(self.value, self.value - half, self.value + half)

    @property
    def p_value(self) -> float:
        """Two-sided, of no difference; 1 where the standard error is not known."""
        if not isfinite(self.error):
            return 1.0
        if self.error == 0:
            return 1.0 if self.value == 0 else 0.0
        return float(2 * stats.t.sf(abs(self.value) / self.error, self.freedom))

    def scaled(self, factor: float) -> Contrast:
        square = factor**2
        return Contrast(
            factor * self.value,
            square * self.seed_variance,
            self.seed_freedom,
            square * self.example_variance,
            self.example_freedom,
        )


def contrast(rows: Sequence[Row]) -> Contrast:
    """The contrast of rows that were tested on the same examples (those of one dataset)."""
    seed_terms = _over_seeds(rows)
    value = sum(row.weight * fmean(row.values) for row in rows)
    seed_variance = sum(term for term, _ in seed_terms)
    example_variance, example_freedom = _over_examples(rows)
    return Contrast(value, seed_variance, _satterthwaite(seed_terms), example_variance, example_freedom)


def mean_of(contrasts: Sequence[Contrast]) -> Contrast:
    """The mean of contrasts of different datasets, which are independent."""
    total = Contrast(
        sum(c.value for c in contrasts),
        sum(c.seed_variance for c in contrasts),
        _satterthwaite([(c.seed_variance, c.seed_freedom) for c in contrasts]),
        sum(c.example_variance for c in contrasts),
        _satterthwaite([(c.example_variance, c.example_freedom) for c in contrasts]),
    )
    return total.scaled(1 / len(contrasts))


def critical_value(freedom: float, confidence: float, methods: int = 2) -> float:
    """Half widths of intervals in standard errors: Student's t, or the studentised range over the root of 2.

    scipy's quantile of the studentised range takes a quarter of a second, and a table needs hundreds; this one agrees
    with it to four digits.
    """
    if methods <= 2:
        return float(stats.t.ppf((1 + confidence) / 2, freedom))
    return _studentised_range(round(freedom, 2), confidence, methods) / sqrt(2)


@lru_cache(maxsize=4096)
def _studentised_range(freedom: float, confidence: float, methods: int) -> float:
    """The quantile of the studentised range, (largest - smallest) / standard deviation of `methods` normal values."""
    u, weights = _nodes(0.0, 1.0)
    spread = np.sqrt(stats.chi2.ppf(u, freedom) / freedom) if isfinite(freedom) else np.ones_like(u)

    def excess(q: float) -> float:
        return float(weights @ _range_probability(q * spread, methods)) - confidence

    return float(optimize.brentq(excess, 1e-3, 1e5, rtol=1e-7))


def _range_probability(widths: NDArray[np.float64], methods: int) -> NDArray[np.float64]:
    """P(the range of so many standard normal values is below each width), by the largest of them."""
    z, weights = _nodes(-8.0, 8.0)
    below = special.ndtr(z) - special.ndtr(z - widths[:, None])
    density = np.exp(-(z**2) / 2) / sqrt(2 * pi)
    return np.asarray(methods * (below ** (methods - 1)) @ (weights * density))


def _nodes(low: float, high: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points and weights of Gauss and Legendre between two bounds."""
    x, weights = _legendre()
    return (x + 1) / 2 * (high - low) + low, weights * (high - low) / 2


@lru_cache(maxsize=1)
def _legendre() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.polynomial.legendre.leggauss(96)


def _over_seeds(rows: Sequence[Row]) -> list[tuple[float, float]]:
    """The larger of the rows' own variances over seeds and the pooled ones: (variance, degrees of freedom) terms."""
    separate = []
    pooled: dict[Pool, float] = {}
    for row in rows:
        n = len(row.values)
        factor = row.weight**2 / n
        separate.append((factor * variance(row.values) if n > 1 else inf, n - 1.0))
        if row.pool is not None:
            pooled[row.pool] = pooled.get(row.pool, 0.0) + factor
    terms = [(factor * pool.variance, pool.freedom) for pool, factor in pooled.items()]
    if all(row.pool for row in rows) and sum(term for term, _ in terms) > sum(term for term, _ in separate):
        return terms
    return separate


def _over_examples(rows: Sequence[Row]) -> tuple[float, float]:
    """Variance over examples of the expectation over seeds, and its degrees of freedom; NaN where not known."""
    known = [row.without_groups for row in rows if row.without_groups is not None]
    if len(known) < len(rows):
        return nan, nan
    total = np.sum(
        [row.weight * values.mean(axis=0) for row, values in zip(rows, known, strict=True)], axis=0
    )
    result = float(covariance(total[None])[0, 0])
    for row, values in zip(rows, known, strict=True):
        n = len(values)
        if n > 1:
            of_seeds = covariance(values)
            of_one, of_mean = float(np.trace(of_seeds)) / n, float(of_seeds.mean())
            result -= row.weight**2 * (of_one - of_mean) / (n - 1)
    return max(result, 0.0), known[0].shape[1] - 1.0


def _satterthwaite(terms: Sequence[tuple[float, float]]) -> float:
    """Degrees of freedom of a sum of variances. terms: (variance, its degrees of freedom)."""
    total = sum(term for term, _ in terms)
    if not isfinite(total):
        return nan
    if total == 0:
        return inf
    return total**2 / sum(term**2 / freedom for term, freedom in terms if term > 0)
