"""Which training rows form a batch, in which order: a function of the rows, the settings and a generator alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from mlcl.training.settings import TrainingSettings

BUCKET = 50
"""With length bucketing, texts are sorted by length within this many batches."""


def steps_per_epoch(rows: int, settings: TrainingSettings, all_rows: int | None = None) -> int:
    """Batches of an epoch on so many `rows`, a subset of `all_rows` training rows (None: they are all)."""
    steps = settings.steps_per_epoch
    if steps == "all_rows":
        rows, steps = all_rows or rows, None
    return steps or max(1, rows // settings.batch_size)


def epoch_batches(
    rows: np.ndarray,
    settings: TrainingSettings,
    generator: torch.Generator,
    lengths: np.ndarray | None,
    all_rows: int | None = None,
) -> list[np.ndarray]:
    """The batches of one epoch, row numbers (B,) each.

    Full batches in random order, the incomplete last one dropped; fewer rows than a batch holds form one batch.
    `lengths` (N,) of all rows of the split asks for batches of similar lengths (length bucketing). `all_rows`: as in
    `steps_per_epoch`.
    """
    size, steps = settings.batch_size, steps_per_epoch(len(rows), settings, all_rows)
    passes = [_shuffled(rows, generator)]
    if len(rows) >= size:
        while sum(len(order) // size for order in passes) < steps:
            passes.append(_shuffled(rows, generator))
        batches = [batch for order in passes for batch in _batches(order, size, lengths, generator)]
    else:
        batches = [_shuffled(rows, generator) if i else passes[0] for i in range(steps)]
    return batches[:steps]


def _shuffled(rows: np.ndarray, generator: torch.Generator) -> np.ndarray:
    return rows[torch.randperm(len(rows), generator=generator).numpy()]


def _batches(
    order: np.ndarray, size: int, lengths: np.ndarray | None, generator: torch.Generator
) -> Iterator[np.ndarray]:
    order = order[: len(order) // size * size]
    if lengths is None:
        yield from order.reshape(-1, size)
        return
    # Sorted within buckets of many shuffled batches, so that batches differ from epoch to epoch.
    batches: list[np.ndarray] = []
    for start in range(0, len(order), size * BUCKET):
        bucket = order[start : start + size * BUCKET]
        batches.extend(bucket[np.argsort(lengths[bucket], kind="stable")].reshape(-1, size))
    for number in torch.randperm(len(batches), generator=generator).tolist():
        yield batches[number]
