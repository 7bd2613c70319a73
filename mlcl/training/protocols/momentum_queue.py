"""Contrast with a momentum encoder and a queue, then linear evaluation or fine-tuning.

Protocol of MulSupCon (Zhang and Wu, AAAI 2024): two views of each example; the second goes through a slowly
following key encoder; the references of the loss are the keys of the batch and of the last batches. Defaults are the
values of its code for the vector dataset yeast; an "epoch" there is 1000 batches. The queue starts empty, not filled
with noise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from mlcl.training.settings import Share, TrainingSettings

if TYPE_CHECKING:
    from mlcl.training.context import Context, Outcome

TRAINS = ("embeddings",)
READS_FEATURES = True


class Finetuning(TrainingSettings):
    """The second stage: encoder and a linear head, trained with binary cross-entropy."""

    head_dropout: Share = 0.0


class Settings(TrainingSettings):
    epochs: PositiveInt = 150
    steps_per_epoch: PositiveInt | None = 1000
    batch_size: Annotated[int, Field(ge=2)] = 64
    optimiser: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: PositiveFloat = 4e-4
    feature_masking: Share = 0.5
    projection_dim: PositiveInt = 256
    """The loss sees Linear(h, h)-ReLU-Linear(h, projection_dim) of the feature."""
    queue_size: PositiveInt = 256
    """Keys that are kept besides those of the batch."""
    momentum: Annotated[float, Field(ge=0, le=1)] = 0.999
    """Share of its own weights that the key encoder keeps at each step."""
    finetuning: Finetuning | None = None
    """None: linear evaluation of the frozen features."""


def run(context: Context) -> Outcome:
    from mlcl.training import parts
    from mlcl.training.methods import Classification, MomentumQueue
    from mlcl.training.reading import read_features

    settings = Settings.model_validate(context.settings.training)
    encoder = context.new_encoder()
    projection = parts.projection(context, encoder.feature_dim, settings.projection_dim)
    loss = parts.loss(context, settings.projection_dim)
    method = MomentumQueue(encoder, projection, loss, settings.queue_size, settings.momentum)
    fitted = context.fit(method, settings, stage="contrast")
    if settings.finetuning is None:
        return read_features(context, fitted)
    classifier = parts.classifier(context, encoder.feature_dim, settings.finetuning.head_dropout)
    tuned = Classification(fitted.method.encoder, classifier, parts.plain_loss(context, "bce"))
    return parts.outcome(context, context.fit(tuned, settings.finetuning, stage="finetuning", after=fitted))
