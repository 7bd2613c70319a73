"""What methods are made of besides the encoder: projection, classifier, loss. Each from its own random stream."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from mlcl import losses
from mlcl.evaluation.linear import LinearHeads
from mlcl.training import processes
from mlcl.training.context import EVALUATED, Context, Outcome
from mlcl.training.loop import Fitted
from mlcl.training.seeding import generator, seed_globally


def projection(context: Context, feature_dim: int, projection_dim: int) -> nn.Module:
    """Linear(h, h)-ReLU-Linear(h, projection_dim), Xavier-initialised (comprehensive study, arXiv 2412.00101)."""
    seed_globally(context.settings.seed, "projection")
    first = nn.Linear(feature_dim, feature_dim)
    second = nn.Linear(feature_dim, projection_dim)
    for layer in (first, second):
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(first, nn.ReLU(), second).to(context.device)


def classifier(context: Context, feature_dim: int, dropout: float) -> nn.Sequential:
    """Dropout and a linear layer: features (B, h) -> logits (B, L)."""
    seed_globally(context.settings.seed, "classifier")
    linear = nn.Linear(feature_dim, context.dataset.num_labels)
    return nn.Sequential(nn.Dropout(dropout), linear).to(context.device)


def loss(context: Context, embedding_dim: int | None = None) -> nn.Module:
    """The cell's loss, with its prototypes or heads if it has any; on the rows of all processes."""
    part = context.loss_part
    made = losses.create(
        part.name,
        num_labels=context.dataset.num_labels,
        embedding_dim=embedding_dim,
        file=part.file,
        generator=generator(context.settings.seed, "loss"),
        **part.hyperparameters,
    )
    return context.for_all_processes(made.to(context.device))


def plain_loss(context: Context, name: str) -> nn.Module:
    """A loss with its defaults, for a stage that has one of its own."""
    return context.for_all_processes(losses.create(name, num_labels=context.dataset.num_labels))


@torch.no_grad()
def outcome(context: Context, fitted: Fitted) -> Outcome:
    """The outcome of a method that has a linear head: scores are the sigmoid of its logits."""
    if processes.rank() > 0:
        return Outcome({}, fitted=fitted)  # the first process evaluates
    head = fitted.method.head
    assert head is not None
    heads = LinearHeads(
        head.weight.T[None], head.bias[None], torch.zeros_like(head.bias[None], dtype=torch.long)
    )
    features = {split: context.encode(fitted.method.encoder, split) for split in EVALUATED}
    scores = {split: heads.probabilities(values) for split, values in features.items()}
    return Outcome(scores=on_host(scores), features=on_host(features), fitted=fitted, heads=heads)


def on_host(values: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {split: tensor.cpu().numpy() for split, tensor in values.items()}
