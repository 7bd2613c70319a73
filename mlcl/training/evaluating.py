"""The linear evaluation of a frozen encoder, as protocols use it."""

from __future__ import annotations

from torch import nn

from mlcl.evaluation import linear
from mlcl.training.context import EVALUATED, Context, Outcome
from mlcl.training.loop import Diverged, EpochReport
from mlcl.training.seeding import generator


def evaluate_linearly(context: Context, encoder: nn.Module, curve: list[EpochReport]) -> Outcome:
    """Trains the grid of heads on the features of the training rows, chooses on val, scores val and test."""
    settings = context.settings.linear_evaluation
    if settings is None:
        raise ValueError(f"the protocol {context.settings.protocol} needs settings of linear evaluation")
    features = {split: context.encode(encoder, split) for split in ("train", *EVALUATED)}
    if not all(values.isfinite().all() for values in features.values()):
        raise Diverged("the trained encoder's features are not finite")
    heads = linear.fit(
        features["train"],
        context.labels("train")[context.train_rows],
        features["val"],
        context.labels("val"),
        linear.Grid(**settings.model_dump()),
        generator(context.settings.seed, "linear_evaluation"),
    )
    return Outcome(
        scores={split: heads.probabilities(features[split]).cpu().numpy() for split in EVALUATED},
        features={split: features[split].cpu().numpy() for split in EVALUATED},
        curve=curve,
    )
