"""Contrastive training of the encoder, then linear evaluation of its frozen features.

Protocol of the comprehensive study (Audibert, Gauffre, Amini, arXiv 2412.00101): the loss is computed on a projection
of the features, the evaluation uses the features themselves. One view per example, no queue; the last epoch's weights
are evaluated. Open: the paper's number of epochs, batch size (32 to 256) and augmentation (`basic`, `randaugment` or
`randaugment_strong`). The 80 epochs are from later configurations of its code, which trains in mixed precision
(`compute: {precision: mixed}`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field, PositiveFloat, PositiveInt

from mlcl.training.settings import TrainingSettings

if TYPE_CHECKING:
    from mlcl.training.context import Context
    from mlcl.training.outcome import Outcome

LOSS_INPUTS = ("embeddings",)
FINETUNING_RATE = True
HAS_HEAD = False


class Settings(TrainingSettings):
    epochs: PositiveInt = 80
    batch_size: Annotated[int, Field(ge=2)] = 256
    learning_rate: PositiveFloat = 5e-5
    projection_dim: PositiveInt = 256
    """Width of the projection that the loss is computed on: Linear(h, h)-ReLU-Linear(h, projection_dim)."""


def run(context: Context) -> Outcome:
    from mlcl.training import heads
    from mlcl.training.fit import fit
    from mlcl.training.methods import Contrastive
    from mlcl.training.outcome import read_out

    settings = Settings.model_validate(context.settings.training)
    encoder = context.new_encoder()
    projection = heads.projection(context, encoder.feature_dim, settings.projection_dim)
    loss = heads.loss(context, settings.projection_dim)
    fitted = fit(context, Contrastive(encoder, projection, loss), settings)
    return read_out(context, fitted)
