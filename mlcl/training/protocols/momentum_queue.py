"""Contrast with a momentum encoder and a queue, then linear evaluation or fine-tuning.

Protocol of MulSupCon (Zhang and Wu, AAAI 2024): two views of each example; the second goes through a slowly
following key encoder; the references of the loss are the keys of the batch and of the last batches. Defaults are the
values that its code has for the vector dataset yeast, where an "epoch" is 1000 batches, and its plainer augmentation
of images; those of its other datasets are open. Texts get their two views from dropout, which is ours.

What differs from the code: its learning rate starts anew after 50 epochs and never falls below 1e-4, ours falls
once, to 0; its projection has batch normalisation and dropout, and its crops may be smaller; it uses the queue only
once that is full, here it is used as far as it is filled. Fine-tuning there trains the encoder at a tenth of the
head's rate, and lowers both when the validation loss rests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from mlcl.training.inputs.transforms import Augmentation
from mlcl.training.settings import SelectionRule, Share, TrainingSettings

if TYPE_CHECKING:
    from mlcl.losses import LossInfo
    from mlcl.training.context import Context
    from mlcl.training.outcome import Outcome

LOSS_INPUTS = ("embeddings",)
PROBES_FEATURES = True


class Finetuning(TrainingSettings):
    """The second stage: encoder and a linear head, trained with binary cross-entropy."""

    epochs: PositiveInt = 30
    steps_per_epoch: PositiveInt | None = 50
    batch_size: Annotated[int, Field(ge=2)] = 32
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: PositiveFloat = 4e-4
    weight_decay: NonNegativeFloat = 0.0
    schedule: Literal["constant", "cosine", "linear", "one_cycle"] = "constant"
    warmup: Share = 0.0
    gradient_clip: PositiveFloat | None = None
    selection: SelectionRule = "best_val_loss"
    head_dropout: Share = 0.0
    """Before the linear head."""


class Settings(TrainingSettings):
    epochs: PositiveInt = 150
    steps_per_epoch: PositiveInt | None = 1000
    batch_size: Annotated[int, Field(ge=2)] = 64
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: PositiveFloat = 4e-4
    weight_decay: NonNegativeFloat = 1e-5
    warmup: Share = 0.0
    gradient_clip: PositiveFloat | None = None
    augmentation: Augmentation = "crop_flip"
    feature_masking: Share = 0.5
    projection_dim: PositiveInt = 256
    """The loss sees Linear(h, h)-ReLU-Linear(h, projection_dim) of the feature."""
    queue_size: PositiveInt = 256
    """Keys that are kept besides those of the batch."""
    momentum: Annotated[float, Field(ge=0, le=1)] = 0.999
    """Share of its own weights that the key encoder keeps at each step."""
    finetuning: Finetuning | None = None
    """None: linear evaluation of the frozen features."""


def incompatible_with(loss: LossInfo, frozen: bool) -> str | None:
    if "batch" not in loss.references:
        return f"{loss.name} compares with prototypes alone and has no use for the keys"
    if not loss.accepts_references:
        return f"the forward of {loss.name} has no parameter references, through which it would get the keys"
    if frozen:
        return "it needs two views of each example, and the features of a frozen encoder are computed once"
    return None


def run(context: Context) -> Outcome:
    from mlcl.losses.bce import BCE
    from mlcl.training import heads
    from mlcl.training.fit import fit
    from mlcl.training.methods import Classification, MomentumQueue
    from mlcl.training.outcome import score_with_head, score_with_probe

    settings = Settings.model_validate(context.settings.training)
    encoder = context.new_encoder()
    projection = heads.projection(context, encoder.feature_dim, settings.projection_dim)
    loss = heads.loss(context, settings.projection_dim)
    method = MomentumQueue(encoder, projection, loss, settings.queue_size, settings.momentum)
    fitted = fit(context, method, settings, stage="contrast")
    if settings.finetuning is None:
        return score_with_probe(context, fitted)
    classifier = heads.classifier(context, encoder.feature_dim, settings.finetuning.head_dropout)
    loss = context.across_processes(BCE(context.dataset.num_labels))
    tuned = Classification(fitted.method.encoder, classifier, loss)
    return score_with_head(
        context, fit(context, tuned, settings.finetuning, stage="finetuning", after=fitted)
    )
