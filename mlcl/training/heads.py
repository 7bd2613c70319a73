"""What a method has besides the encoder: projection, classifier and loss, each from its own random stream."""

from __future__ import annotations

from torch import nn

from mlcl import losses
from mlcl.training.context import Context
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
    """The cell's loss, with its prototypes or heads if it has any; it sees the rows of all processes."""
    part = context.loss_part
    criterion = losses.create(
        part.name,
        num_labels=context.dataset.num_labels,
        embedding_dim=embedding_dim,
        file=part.file,
        generator=generator(context.settings.seed, "loss"),
        **part.hyperparameters,
    )
    criterion = criterion.to(context.device)
    losses.learn_from_training(criterion, lambda: context.labels_of_rows("train"))
    return context.across_processes(criterion)
