"""What protocols put on top of an encoder: projection, classifier, loss. Each from its own random stream."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from mlcl import losses
from mlcl.encoders.base import Encoder
from mlcl.training.context import EVALUATED, Context, Outcome
from mlcl.training.loop import EpochReport
from mlcl.training.seeding import generator, seed_globally


def projection(context: Context, feature_dim: int) -> nn.Module:
    """Linear(h, h)-ReLU-Linear(h, projection_dim), Xavier-initialised (comprehensive study, arXiv 2412.00101)."""
    seed_globally(context.settings.seed, "projection")
    first = nn.Linear(feature_dim, feature_dim)
    second = nn.Linear(feature_dim, context.training.projection_dim)
    for layer in (first, second):
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(first, nn.ReLU(), second).to(context.device)


def classifier(context: Context, feature_dim: int) -> nn.Module:
    """Dropout and a linear layer: features (B, h) -> logits (B, L)."""
    seed_globally(context.settings.seed, "classifier")
    linear = nn.Linear(feature_dim, context.dataset.num_labels)
    return nn.Sequential(nn.Dropout(context.training.head_dropout), linear).to(context.device)


def loss(context: Context) -> nn.Module:
    """The cell's loss, with its prototypes if it has any."""
    part = context.settings.loss
    if part is None:
        raise ValueError(f"the protocol {context.settings.protocol} needs a loss")
    return losses.create(
        part.name,
        num_labels=context.dataset.num_labels,
        embedding_dim=context.training.projection_dim,
        file=part.file,
        generator=generator(context.settings.seed, "loss"),
        **part.hyperparameters,
    ).to(context.device)


@torch.no_grad()
def classify(context: Context, encoder: Encoder, head: nn.Module, curve: list[EpochReport]) -> Outcome:
    """The outcome of a trained encoder and classifier: sigmoid of the logits."""
    features = {split: context.encode(encoder, split) for split in EVALUATED}
    scores = {split: torch.sigmoid(head(values)) for split, values in features.items()}
    return Outcome(scores=_on_host(scores), features=_on_host(features), curve=curve)


def _on_host(values: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {split: tensor.cpu().numpy() for split, tensor in values.items()}
