"""Contrastive training with a momentum encoder and a queue, then linear evaluation or fine-tuning.

Protocol of MulSupCon (Zhang and Wu, AAAI 2024): each example has two views, and the second goes through the momentum
encoder; the references of the loss are its keys of this batch and of the last batches. Defaults are its code's values
for the vector dataset yeast, where an "epoch" is 1000 batches, and its weaker image augmentation; those of its other
datasets are open. For texts the two views come from dropout, which is our choice.

Its code differs: the learning rate restarts after 50 epochs and never falls below 1e-4 (ours falls once, to 0); the
projection has batch normalisation and dropout; crops may be smaller; the queue is used only once it is full (ours as
far as it is filled). Its fine-tuning trains the encoder at a tenth of the head's learning rate, and lowers both when
the validation loss stops falling.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from mlcl.training.inputs.transforms import Augmentation
from mlcl.training.settings import SelectionRule, Share, StepsPerEpoch, TrainingSettings

if TYPE_CHECKING:
    from mlcl.losses import LossInfo
    from mlcl.training.context import Context
    from mlcl.training.outcome import Outcome

LOSS_INPUTS = ("embeddings",)
HAS_HEAD = False
"""Its second stage, fine-tuning, has one."""


class Finetuning(TrainingSettings):
    """The second stage: encoder and a linear head, trained with binary cross-entropy."""

    epochs: PositiveInt = 30
    steps_per_epoch: StepsPerEpoch = 50
    batch_size: Annotated[int, Field(ge=2)] = 32
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: PositiveFloat = 4e-4
    weight_decay: NonNegativeFloat = 0.0
    schedule: Literal["constant", "cosine", "linear", "one_cycle"] = "constant"
    warmup: Share = 0.0
    gradient_clip: PositiveFloat | None = None
    selection: SelectionRule = "best_val_loss"
    head_dropout: Share = 0.0
    """Dropout before the linear head."""


class Settings(TrainingSettings):
    epochs: PositiveInt = 150
    steps_per_epoch: StepsPerEpoch = 1000
    batch_size: Annotated[int, Field(ge=2)] = 64
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: PositiveFloat = 4e-4
    weight_decay: NonNegativeFloat = 1e-5
    warmup: Share = 0.0
    gradient_clip: PositiveFloat | None = None
    augmentation: Augmentation = "crop_flip"
    feature_masking: Share = 0.5
    projection_dim: PositiveInt = 256
    """Width of the projection that the loss is computed on: Linear(h, h)-ReLU-Linear(h, projection_dim)."""
    queue_size: PositiveInt = 256
    """Number of keys of earlier batches in the queue."""
    momentum: Annotated[float, Field(ge=0, le=1)] = 0.999
    """Each step sets the key encoder's weights to momentum * themselves + (1 - momentum) * the encoder's."""
    finetuning: Finetuning | None = None
    """None: a probe on the frozen features."""


def incompatible_with(loss: LossInfo, frozen: bool) -> str | None:
    if "batch" not in loss.references:
        return (
            f"{loss.name} contrasts with prototypes only, not with other examples, so it cannot use the queue"
        )
    if not loss.accepts_references:
        return f"the forward of {loss.name} has no parameter references, which the keys are passed as"
    if frozen:
        return "it needs two views of each example, but a frozen encoder's features are computed once, from one view"
    return None


def run(context: Context) -> Outcome:
    from mlcl.losses.bce import BCE
    from mlcl.training import heads
    from mlcl.training.fit import fit
    from mlcl.training.methods import Classification, MomentumQueue
    from mlcl.training.outcome import read_out

    settings = Settings.model_validate(context.settings.training)
    encoder = context.new_encoder()
    projection = heads.projection(context, encoder.feature_dim, settings.projection_dim)
    loss = heads.loss(context, settings.projection_dim)
    method = MomentumQueue(encoder, projection, loss, settings.queue_size, settings.momentum)
    fitted = fit(context, method, settings, stage="contrast")
    if settings.finetuning is None:
        return read_out(context, fitted)
    classifier = heads.classifier(context, encoder.feature_dim, settings.finetuning.head_dropout)
    loss = context.across_processes(BCE(context.dataset.num_labels))
    tuned = Classification(fitted.method.encoder, classifier, loss)
    return read_out(context, fit(context, tuned, settings.finetuning, stage="finetuning", after=fitted))
