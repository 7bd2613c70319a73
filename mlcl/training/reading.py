"""What a frozen encoder's features tell of the labels: linear heads or nearest neighbours on top of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from mlcl.evaluation import linear
from mlcl.training import processes
from mlcl.training.context import EVALUATED, Context, Outcome
from mlcl.training.loop import Diverged, Fitted
from mlcl.training.parts import on_host
from mlcl.training.seeding import generator

if TYPE_CHECKING:
    from mlcl.evaluation.knn import Neighbours


def read_features(context: Context, fitted: Fitted) -> Outcome:
    """Fits on the features of the training rows, not augmented; chooses on val; scores val and test."""
    if processes.rank() > 0:
        return Outcome({}, fitted=fitted)  # the first process evaluates
    features = {split: context.encode(fitted.method.encoder, split) for split in ("train", *EVALUATED)}
    if not all(values.isfinite().all() for values in features.values()):
        raise Diverged("the trained encoder's features are not finite")
    reader = _reader(context, features)
    scores = {split: reader.probabilities(features[split]) for split in EVALUATED}
    return Outcome(
        scores=on_host(scores),
        features=on_host({split: features[split] for split in EVALUATED}),
        fitted=fitted,
        heads=reader,
    )


def _reader(context: Context, features: dict[str, torch.Tensor]) -> linear.LinearHeads | Neighbours:
    train_labels = context.labels("train")[torch.from_numpy(context.train_rows)]
    train, val = (features["train"], train_labels), (features["val"], context.labels("val"))
    if (by_neighbours := context.settings.knn_evaluation) is not None:
        from mlcl.evaluation import knn

        return knn.fit(*train, *val, by_neighbours.neighbours, by_neighbours.temperature)
    if context.settings.linear_evaluation is None:
        raise ValueError(f"the protocol {context.settings.protocol} needs settings of linear evaluation")
    grid = linear.Grid(**context.settings.linear_evaluation.model_dump())
    return linear.fit(*train, *val, grid, generator(context.settings.seed, "linear_evaluation"))
