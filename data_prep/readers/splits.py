"""Splits of our own, where a publisher gives none: seeded, and the same on every machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from data_prep.errors import DataError

if TYPE_CHECKING:
    import numpy as np


def assign(rows: int, shares: Mapping[str, float], seed: int) -> list[str]:
    """The split of each row: a random permutation cut into the shares, which are relative to each other.

    Raises DataError where a split would be empty.
    """
    import numpy as np

    order = np.random.default_rng([seed, rows]).permutation(rows)
    total = sum(shares.values())
    names = np.empty(rows, dtype=object)
    start, reached = 0, 0.0
    for name, share in shares.items():
        reached += share
        end = round(rows * reached / total)
        if end == start:
            raise DataError(f"split {name!r} would be empty: {share / total:.0%} of {rows} rows")
        names[order[start:end]] = name
        start = end
    return list(names)


def assign_groups(groups: Sequence[str], shares: Mapping[str, float], seed: int) -> list[str]:
    """The split of each row, rows of one group (one patient, say) always together.

    Groups are drawn like rows in `assign`; the shares are those of groups, and of rows only about.
    """
    distinct = sorted(set(groups))
    split_of = dict(zip(distinct, assign(len(distinct), shares, seed), strict=True))
    return [split_of[group] for group in groups]


def validation_rows(rows: int, share: float, seed: int) -> np.ndarray:
    """Mask (rows,) of the training rows that become the validation split."""
    import numpy as np

    return np.array(assign(rows, {"val": share, "train": 1 - share}, seed)) == "val"
