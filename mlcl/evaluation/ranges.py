"""The range and the direction of each metric. A value outside of its range is a fault, never a result.

Variants of a metric, such as `hamming_loss_tuned`, have its name at the beginning of theirs.
"""

from __future__ import annotations

import math

TOLERANCE = 1e-6
"""For the rounding of sums."""
_OTHERS = {
    "coverage_error": (0.0, math.inf),
    "alignment": (0.0, 4.0),
    "uniformity": (-8.0, 0.0),
    "similarity": (-1.0, 1.0),
}
"""Those whose range is not [0, 1], by the beginning of their names: squared distances on the unit sphere, the
logarithm of the mean of exp(-2 d^2), cosines."""
_LOWER_IS_BETTER = (
    "hamming_loss",
    "coverage_error",
    "ranking_loss",
    "one_error",
    "ece",
    "alignment",
    "uniformity",
)


def higher_is_better(metric: str) -> bool:
    return not metric.startswith(_LOWER_IS_BETTER)


def range_of(metric: str) -> tuple[float, float]:
    """The smallest and the largest value."""
    return next((bounds for name, bounds in _OTHERS.items() if metric.startswith(name)), (0.0, 1.0))


def is_in_range(metric: str, value: object) -> bool:
    """Is it a finite number in the metric's range?"""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return False
    low, high = range_of(metric)
    return low - TOLERANCE <= value <= high + TOLERANCE
