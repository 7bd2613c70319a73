"""Which epoch's weights are evaluated: the rules that look at the validation split."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from mlcl.evaluation import knn
from mlcl.training.batches import in_order
from mlcl.training.loop import Validation
from mlcl.training.settings import TrainingSettings

if TYPE_CHECKING:
    from mlcl.training.context import Context
    from mlcl.training.methods import Method

NEIGHBOURS = 10


def validation(context: Context, settings: TrainingSettings) -> Validation:
    """What measures a method after an epoch.

    `val_loss`: the loss of validation batches, in order, averaged over rows. `val_micro_f1`: of the method's own
    head at 0.5; of its 10 nearest training rows where it has none (contrastive losses).
    """
    inputs, labels, rows = context.inputs("val"), context.labels("val"), context.rows("val")

    @torch.no_grad()
    def measure(method: Method) -> dict[str, float]:
        features = context.encode_rows(method.encoder, inputs, rows)
        parts = [torch.from_numpy(part) for part in in_order(rows, settings.batch_size)]
        losses = [method.loss(features[part], labels[part]) * len(part) for part in parts]
        return {
            "val_loss": float(torch.stack(losses).sum() / len(rows)),
            "val_micro_f1": _micro_f1(_predicted(context, method, features), labels),
        }

    return measure


def _predicted(context: Context, method: Method, features: torch.Tensor) -> torch.Tensor:
    if method.head is not None:
        predicted: torch.Tensor = method.head(features) > 0
        return predicted
    train = context.encode(method.encoder, "train")
    labels = context.labels("train")[torch.from_numpy(context.train_rows)]
    return knn.probabilities(train, labels, features, NEIGHBOURS) > 0.5


def _micro_f1(predicted: torch.Tensor, labels: torch.Tensor) -> float:
    """2 hits / (predicted + true); 0 where there is neither."""
    hits = (predicted & labels).sum()
    return float(2 * hits / (predicted.sum() + labels.sum()).clamp(min=1))
