"""From a trained method to scores: with its own head, or with a probe on its frozen features."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mlcl.evaluation import linear
from mlcl.evaluation.linear import LinearHeads
from mlcl.training import distributed
from mlcl.training.context import Context
from mlcl.training.events import Diverged
from mlcl.training.loop import FitResult
from mlcl.training.seeding import generator

if TYPE_CHECKING:
    from mlcl.evaluation.knn import Neighbours

EVALUATED = ("val", "test")


@dataclass(frozen=True)
class Outcome:
    """What a protocol returns: probabilities and, where there is an encoder, features of each evaluated split."""

    scores: dict[str, np.ndarray]
    """split -> (N, L) float32 probabilities"""
    features: dict[str, np.ndarray] = field(default_factory=dict)
    """split -> (N, D) float32"""
    fitted: FitResult | None = None
    """The trained method, its learning curve and times."""
    heads: LinearHeads | Neighbours | None = None
    """What computed scores from features."""
    examples: dict[str, int] = field(default_factory=dict)
    """split -> number of rows used; filled in by `run.train`"""
    throughput: dict[str, Any] = field(default_factory=dict)
    """See `throughput.measure`; filled in by `run.train`"""


@torch.no_grad()
def score_with_head(context: Context, fitted: FitResult) -> Outcome:
    """Scores are the sigmoid of the method's own linear head. On ranks above 0 the outcome is empty."""
    if distributed.rank() > 0:
        return Outcome({}, fitted=fitted)
    head = fitted.method.head
    assert head is not None
    heads = LinearHeads(
        head.weight.T[None], head.bias[None], torch.zeros_like(head.bias[None], dtype=torch.long)
    )
    features = {split: context.encode(fitted.method.encoder, split) for split in EVALUATED}
    scores = {split: heads.probabilities(values) for split, values in features.items()}
    return Outcome(scores=_to_numpy(scores), features=_to_numpy(features), fitted=fitted, heads=heads)


def score_with_probe(context: Context, fitted: FitResult) -> Outcome:
    """Scores of a probe on frozen features: linear heads or nearest neighbours, as the cell's settings say.

    Fitted on the training rows without augmentation; hyperparameters are chosen on val. On ranks above 0 the outcome
    is empty. Raises Diverged if a feature is not finite.
    """
    if distributed.rank() > 0:
        return Outcome({}, fitted=fitted)
    features = {split: context.encode(fitted.method.encoder, split) for split in ("train", *EVALUATED)}
    if not all(values.isfinite().all() for values in features.values()):
        raise Diverged("the trained encoder's features are not finite")
    probe = _fit_probe(context, features)
    scores = {split: probe.probabilities(features[split]) for split in EVALUATED}
    return Outcome(
        scores=_to_numpy(scores),
        features=_to_numpy({split: features[split] for split in EVALUATED}),
        fitted=fitted,
        heads=probe,
    )


def _fit_probe(context: Context, features: dict[str, torch.Tensor]) -> LinearHeads | Neighbours:
    train_labels = context.labels("train")[torch.from_numpy(context.train_rows)]
    train, val = (features["train"], train_labels), (features["val"], context.labels("val"))
    if (settings := context.settings.knn_evaluation) is not None:
        from mlcl.evaluation import knn

        return knn.fit(*train, *val, settings.neighbours, settings.temperature)
    if context.settings.linear_evaluation is None:
        raise ValueError(f"the protocol {context.settings.protocol} needs settings of linear evaluation")
    grid = linear.Grid(**context.settings.linear_evaluation.model_dump())
    return linear.fit(*train, *val, grid, generator(context.settings.seed, "linear_evaluation"))


def _to_numpy(values: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {split: tensor.cpu().numpy() for split, tensor in values.items()}
