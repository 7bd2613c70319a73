"""KMCL's recipe: end to end, Adam with a one-cycle schedule, a moving average of the weights, Cutout and RandAugment.

Values of Sajedi et al. (arXiv 2307.03967) and their code, for images of 224 pixels (448: 80 epochs, batch size 128).
A loss on features has its own heads; a loss on logits gets a linear head, so that the paper's baselines are trained by
the same recipe. The moving average is meant for many thousand steps: after a few hundred, with decay 0.9997, it is
still close to the initial weights. Its code therefore scores averaged and plain weights, on the test set, and reports
the better (at every tenth epoch, of which it keeps the best); here validation chooses between them, after the last.

The code trains in mixed precision (`compute: {precision: mixed}`) and fills Cutout's square with a random colour; ours
is black. Open: number and magnitude of RandAugment's operations, which the code leaves to a library; ours are (2, 9).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from mlcl.training.inputs.transforms import Augmentation
from mlcl.training.settings import EmaEvaluation, Share, TrainingSettings

if TYPE_CHECKING:
    from mlcl.training.context import Context
    from mlcl.training.outcome import Outcome

LOSS_INPUTS = ("features", "logits")
HAS_HEAD = True


class Settings(TrainingSettings):
    epochs: PositiveInt = 40
    batch_size: Annotated[int, Field(ge=2)] = 64
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: PositiveFloat = 2e-4
    weight_decay: NonNegativeFloat = 1e-4
    schedule: Literal["constant", "cosine", "linear", "one_cycle"] = "one_cycle"
    warmup: Share = 0.2
    gradient_clip: PositiveFloat | None = None
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = 0.9997
    ema_evaluation: EmaEvaluation = "best_val_map"
    augmentation: Augmentation = "cutout_randaugment"
    head_dropout: Share = 0.0
    """Dropout before the linear head of a loss on logits."""


def run(context: Context) -> Outcome:
    from mlcl.training import heads
    from mlcl.training.fit import fit
    from mlcl.training.methods import Classification, OwnHeads
    from mlcl.training.outcome import read_out

    settings = Settings.model_validate(context.settings.training)
    encoder = context.new_encoder()
    if context.loss_info.inputs == "features":
        loss = heads.loss(context, encoder.feature_dim)
        fitted = fit(context, OwnHeads(encoder, loss), settings)
        return read_out(context, fitted)
    classifier = heads.classifier(context, encoder.feature_dim, settings.head_dropout)
    fitted = fit(context, Classification(encoder, classifier, heads.loss(context)), settings)
    return read_out(context, fitted)
