"""A classification loss on the logits and a contrastive one on the projection, trained together, end to end.

The weighted sum of CL-MTC (Lin et al., arXiv 2212.00552), with the values of its code. Scores are the sigmoid of the
logits. Its code differs: the contrastive loss is on the features, without projection; the head has another learning
rate (1e-3); and training stops early when the macro-F1 on validation has not risen for 10 epochs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from mlcl.training.settings import Share, TrainingSettings

if TYPE_CHECKING:
    from mlcl.training.context import Context
    from mlcl.training.outcome import Outcome

LOSS_INPUTS = ("both",)
FINETUNING_RATE = True
HAS_HEAD = True


class Settings(TrainingSettings):
    epochs: PositiveInt = 20
    batch_size: Annotated[int, Field(ge=2)] = 32
    learning_rate: PositiveFloat = 2e-5
    weight_decay: NonNegativeFloat = 0.0
    schedule: Literal["constant", "cosine", "linear", "one_cycle"] = "linear"
    warmup: Share = 0.1
    projection_dim: PositiveInt = 256
    """Width of the projection that the contrastive loss is computed on: Linear(h, h)-ReLU-Linear(h, projection_dim)."""
    head_dropout: Share = 0.1
    """Dropout before the linear head."""


def run(context: Context) -> Outcome:
    from mlcl.training import heads
    from mlcl.training.fit import fit
    from mlcl.training.methods import Joint
    from mlcl.training.outcome import read_out

    settings = Settings.model_validate(context.settings.training)
    encoder = context.new_encoder()
    projection = heads.projection(context, encoder.feature_dim, settings.projection_dim)
    classifier = heads.classifier(context, encoder.feature_dim, settings.head_dropout)
    loss = heads.loss(context, settings.projection_dim)
    fitted = fit(context, Joint(encoder, projection, classifier, loss), settings)
    return read_out(context, fitted)
