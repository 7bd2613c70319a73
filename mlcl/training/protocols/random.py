"""Baseline: scores drawn uniformly from [0, 1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlcl.training.context import Context
    from mlcl.training.outcome import Outcome

Settings = None
LOSS_INPUTS = ()
PROBES_FEATURES = False


def run(context: Context) -> Outcome:
    import torch

    from mlcl.training.outcome import EVALUATED, Outcome
    from mlcl.training.seeding import generator

    source = generator(context.settings.seed, "random_scores")
    sizes = {split: (len(context.dataset[split]), context.dataset.num_labels) for split in EVALUATED}
    return Outcome(
        scores={split: torch.rand(size, generator=source).numpy() for split, size in sizes.items()}
    )
