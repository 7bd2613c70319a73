"""Baseline: scores drawn uniformly from [0, 1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlcl.training.context import Context
    from mlcl.training.outcome import Outcome

Settings = None
LOSS_INPUTS = ()
HAS_HEAD = False


def run(context: Context) -> Outcome:
    import torch

    from mlcl.evaluation.readouts import NO_READOUT
    from mlcl.training.outcome import EVALUATED, Outcome
    from mlcl.training.seeding import generator

    source = generator(context.settings.seed, "random_scores")
    sizes = {split: (len(context.rows(split)), context.dataset.num_labels) for split in EVALUATED}
    scores = {split: torch.rand(size, generator=source).numpy() for split, size in sizes.items()}
    return Outcome(scores={NO_READOUT: scores})
