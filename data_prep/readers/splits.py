"""Splits of our own, where a publisher gives none: seeded, and the same on every machine."""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING

from data_prep.errors import DataError

if TYPE_CHECKING:
    import numpy as np


NO_LABELS: frozenset[Hashable] = frozenset([None])


def assign(rows: int, shares: Mapping[str, float], seed: int) -> list[str]:
    """The split of each row: a random permutation cut into the shares, which are relative to each other.

    Raises DataError where a split would be empty.
    """
    import numpy as np

    order = np.random.default_rng([seed, rows]).permutation(rows)
    names = np.empty(rows, dtype=object)
    start = 0
    for name, size in _sizes(rows, shares).items():
        names[order[start : start + size]] = name
        start += size
    return list(names)


def assign_stratified(
    labels: Sequence[Sequence[Hashable]], shares: Mapping[str, float], seed: int
) -> list[str]:
    """The split of each row, such that every split has its share of the positives of every label.

    Iterative stratification (Sechidis, Tsoumakas, Vlahavas: On the Stratification of Multi-Label Data, ECML PKDD
    2011): of the labels that are left the rarest one first, each of its rows to the split that lacks most of this
    label; rows without labels as if that were a label. Here the splits have exactly the sizes that `assign` gives
    them, and none is without a row with labels where another one has two of them.

    Args:
        labels: the labels of each row; each counts once.

    Raises DataError where a split would be empty.
    """
    import numpy as np

    rows = len(labels)
    sizes = _sizes(rows, shares)
    order = np.random.default_rng([seed, rows]).permutation(rows).tolist()
    sets = [frozenset(row) or NO_LABELS for row in labels]
    rows_of: dict[Hashable, list[int]] = {}
    for row in order:
        for label in sets[row]:
            rows_of.setdefault(label, []).append(row)
    # Labels as numbers in the order of their first rows: sets have no order that all machines share.
    numbers = {label: number for number, label in enumerate(_in_order_of_rows(labels, order))}
    numbers[None] = len(numbers)
    left = {label: len(found) for label, found in rows_of.items()}
    lacking = {label: {name: left[label] * size / rows for name, size in sizes.items()} for label in rows_of}
    room = dict(sizes)
    split_of: dict[int, str] = {}
    rarest = [(count, numbers[label], label) for label, count in left.items()]
    heapq.heapify(rarest)
    while rarest:
        count, _, label = heapq.heappop(rarest)
        if count != left[label] or count == 0:
            continue  # an entry from before rows of this label were assigned
        for row in rows_of[label]:
            if row in split_of:
                continue
            name = max(
                (name for name in room if room[name]), key=lambda name: (lacking[label][name], room[name])
            )
            split_of[row] = name
            room[name] -= 1
            for other in sets[row]:
                left[other] -= 1
                lacking[other][name] -= 1
                if other != label and left[other]:
                    heapq.heappush(rarest, (left[other], numbers[other], other))
    _give_each_split_labels(split_of, sets, order)
    return [split_of[row] for row in range(rows)]


def _in_order_of_rows(labels: Sequence[Sequence[Hashable]], order: Sequence[int]) -> dict[Hashable, None]:
    return dict.fromkeys(label for row in order for label in labels[row])


def _give_each_split_labels(
    split_of: dict[int, str], sets: Sequence[frozenset[Hashable]], order: Sequence[int]
) -> None:
    """A split without labels gets a row with some, for one without, from the split that has most of them."""
    labelled: dict[str, list[int]] = {name: [] for name in dict.fromkeys(split_of.values())}
    for row in order:
        if sets[row] != NO_LABELS:
            labelled[split_of[row]].append(row)
    for name, found in labelled.items():
        giver = max(labelled, key=lambda other: len(labelled[other]))
        if found or len(labelled[giver]) < 2:
            continue
        given, taken = labelled[giver].pop(), next(row for row in order if split_of[row] == name)
        split_of[given], split_of[taken] = name, giver
        found.append(given)


def _sizes(rows: int, shares: Mapping[str, float]) -> dict[str, int]:
    """The rows of each split. Raises DataError for none."""
    total = sum(shares.values())
    sizes, start, reached = dict[str, int](), 0, 0.0
    for name, share in shares.items():
        reached += share
        end = round(rows * reached / total)
        if end == start:
            raise DataError(f"split {name!r} would be empty: {share / total:.0%} of {rows} rows")
        sizes[name] = end - start
        start = end
    return sizes


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
