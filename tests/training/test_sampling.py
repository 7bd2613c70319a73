"""Batches: each row at most once in a pass, full, and a function of rows, settings and generator alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mlcl.training.inputs import sampling
from mlcl.training.settings import TrainingSettings

ROWS = np.arange(1000, 1103)  # 103 rows of a larger split
LENGTHS = np.random.default_rng(0).integers(1, 60, 2000)


def settings(size: int = 10, **more: Any) -> TrainingSettings:
    return TrainingSettings(batch_size=size, **more)


def epoch(
    rows: np.ndarray = ROWS, seed: int = 0, lengths: np.ndarray | None = None, **more: Any
) -> list[np.ndarray]:
    return sampling.epoch_batches(rows, settings(**more), torch.Generator().manual_seed(seed), lengths)


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["random", "buckets"])
def test_a_pass_has_each_row_at_most_once_in_full_batches(lengths: np.ndarray | None) -> None:
    batches = epoch(lengths=lengths)
    assert [len(batch) for batch in batches] == [10] * 10
    seen = np.concatenate(batches)
    assert len(set(seen)) == 100
    assert set(seen) <= set(ROWS)
    assert len(batches) == sampling.steps_per_epoch(len(ROWS), settings())


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["random", "buckets"])
def test_more_steps_than_a_pass_has_are_taken_from_the_next(lengths: np.ndarray | None) -> None:
    batches = epoch(lengths=lengths, steps_per_epoch=25)
    assert len(batches) == 25
    for first in (0, 10, 20):
        part = np.concatenate(batches[first : min(first + 10, 25)])
        assert len(set(part)) == len(part)
    assert not np.array_equal(batches[0], batches[10])


def test_fewer_steps_than_a_pass_has_take_other_rows_each_time() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (
        sampling.epoch_batches(ROWS, settings(steps_per_epoch=3), generator, None) for _ in range(2)
    )
    assert len(first) == len(second) == 3
    assert set(np.concatenate(first)) != set(np.concatenate(second))


@pytest.mark.parametrize("count", [103, 8])
def test_a_subset_can_be_trained_for_as_many_steps_as_all_rows(count: int) -> None:
    """Also one that is smaller than a batch."""
    more, rows = settings(steps_per_epoch="all_rows"), ROWS[:count]
    batches = sampling.epoch_batches(rows, more, torch.Generator().manual_seed(0), None, all_rows=1030)
    assert len(batches) == sampling.steps_per_epoch(count, more, all_rows=1030) == 103
    assert all(set(batch) <= set(rows) for batch in batches)
    assert sampling.steps_per_epoch(count, more) == sampling.steps_per_epoch(count, settings())


def test_the_same_generator_gives_the_same_order_and_then_another() -> None:
    assert all(np.array_equal(a, b) for a, b in zip(epoch(), epoch(), strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(epoch(), epoch(seed=1), strict=True))
    generator = torch.Generator().manual_seed(0)
    first, second = (sampling.epoch_batches(ROWS, settings(), generator, None) for _ in range(2))
    assert not all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert set(np.concatenate(first)) != set(np.concatenate(second))  # others are left out


def test_every_row_is_left_out_equally_often() -> None:
    generator = torch.Generator().manual_seed(0)
    counts = np.zeros(103)
    for _ in range(300):
        for batch in sampling.epoch_batches(ROWS, settings(), generator, None):
            counts[batch - 1000] += 1
    assert counts.min() > 275  # 300 * 100 / 103 on average, with a deviation of about 3


@pytest.mark.parametrize("count", [1, 2, 9])
def test_fewer_rows_than_a_batch_are_one(count: int) -> None:
    batches = epoch(ROWS[:count], steps_per_epoch=3)
    assert [sorted(batch) for batch in batches] == [sorted(ROWS[:count])] * 3
    assert len(epoch(ROWS[:count])) == 1
    assert len(epoch(ROWS[:10])) == 1


def test_length_bucketing_groups_similar_lengths() -> None:
    rows = np.arange(2000)

    def padding(batches: list[np.ndarray]) -> float:
        return float(np.mean([LENGTHS[batch].max() - LENGTHS[batch].mean() for batch in batches]))

    random, bucketed = epoch(rows), epoch(rows, lengths=LENGTHS)
    assert padding(bucketed) < padding(random) / 10
    assert not any(
        set(a) == set(b) for a, b in zip(bucketed, epoch(rows, seed=1, lengths=LENGTHS), strict=True)
    )
    means = [LENGTHS[batch].mean() for batch in bucketed]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.2  # short ones do not come first
