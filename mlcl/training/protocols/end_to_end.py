"""End-to-end training with a classification loss: dropout and a linear head on the features.

The classification baselines of the comprehensive study (arXiv 2412.00101), with the optimizer of its contrastive
losses and the same open points (see `contrastive_linear`). Scores are the sigmoid of the logits; the last epoch's
weights are evaluated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field, PositiveFloat, PositiveInt

from mlcl.training.settings import Share, TrainingSettings

if TYPE_CHECKING:
    from mlcl.training.context import Context
    from mlcl.training.outcome import Outcome

LOSS_INPUTS = ("logits",)
FINETUNING_RATE = True
HAS_HEAD = True


class Settings(TrainingSettings):
    epochs: PositiveInt = 80
    batch_size: Annotated[int, Field(ge=2)] = 256
    learning_rate: PositiveFloat = 5e-5
    head_dropout: Share = 0.1
    """Dropout before the linear head."""


def run(context: Context) -> Outcome:
    from mlcl.training import heads
    from mlcl.training.fit import fit
    from mlcl.training.methods import Classification
    from mlcl.training.outcome import read_out

    settings = Settings.model_validate(context.settings.training)
    encoder = context.new_encoder()
    classifier = heads.classifier(context, encoder.feature_dim, settings.head_dropout)
    fitted = fit(context, Classification(encoder, classifier, heads.loss(context)), settings)
    return read_out(context, fitted)
