"""Baseline: the score of a label is its frequency among the training rows (that know it), for every example."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlcl.training.context import Context
    from mlcl.training.outcome import Outcome

Settings = None
LOSS_INPUTS = ()
HAS_HEAD = False


def run(context: Context) -> Outcome:
    import numpy as np

    from mlcl.data.dataset import UNKNOWN
    from mlcl.evaluation.readouts import NO_READOUT
    from mlcl.training.outcome import EVALUATED, Outcome

    labels = context.dataset["train"].dense_labels(context.train_rows)
    known = np.maximum((labels != UNKNOWN).sum(axis=0), 1)
    prior = ((labels == 1).sum(axis=0) / known).astype(np.float32)
    scores = {split: np.tile(prior, (len(context.rows(split)), 1)) for split in EVALUATED}
    return Outcome(scores={NO_READOUT: scores})
