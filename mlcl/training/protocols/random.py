"""Baseline: scores drawn uniformly from [0, 1)."""

from __future__ import annotations

import torch

from mlcl.training.context import EVALUATED, Context, Outcome
from mlcl.training.seeding import generator


def run(context: Context) -> Outcome:
    source = generator(context.settings.seed, "random_scores")
    num_labels = context.dataset.num_labels
    return Outcome(
        scores={
            split: torch.rand(len(context.dataset[split]), num_labels, generator=source).numpy()
            for split in EVALUATED
        }
    )
