"""The sample on which FLOPs are counted: rows that cost as much as those of an average batch."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from mlcl.training.throughput import SAMPLE, sample_rows


def context(**training: Any) -> Any:
    rows = np.arange(100, 200)
    return SimpleNamespace(train_rows=rows, settings=SimpleNamespace(training={"batch_size": 50} | training))


def test_without_lengths_the_first_rows_are_the_sample() -> None:
    assert sample_rows(context(), None).tolist() == list(range(100, 100 + SAMPLE))


def test_texts_are_padded_to_the_longest_of_a_batch() -> None:
    lengths = np.ones(300, dtype=int)
    lengths[[0, 250]] = 1000  # of no training row
    lengths[199] = 70
    sample = sample_rows(context(), lengths)
    assert len(sample) == SAMPLE
    assert lengths[sample].max() == 70
    assert set(sample.tolist()) <= set(range(100, 200))


def test_bucketed_texts_are_padded_to_similar_ones() -> None:
    lengths = np.arange(300) ** 2
    assert sample_rows(context(length_bucketing=True), lengths).tolist() == [149]
