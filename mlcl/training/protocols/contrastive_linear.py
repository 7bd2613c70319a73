"""Contrastive training of the encoder, then linear evaluation of its frozen features.

Protocol of the comprehensive study (Audibert, Gauffre, Amini, arXiv 2412.00101): the loss sees a projection
Linear(h, h)-ReLU-Linear(h, d) of the feature, Xavier-initialised; the evaluation sees the feature itself. One view
per example, no queue.
"""

from __future__ import annotations

import torch
from torch import nn

from mlcl import losses
from mlcl.training.batches import Batch
from mlcl.training.context import Context, Outcome
from mlcl.training.evaluating import evaluate_linearly
from mlcl.training.seeding import generator, seed_globally


def run(context: Context) -> Outcome:
    encoder = context.new_encoder()
    projection = _projection(context, encoder.feature_dim).to(context.device)
    loss = _loss(context).to(context.device)

    def step_loss(batch: Batch, labels: torch.Tensor) -> torch.Tensor:
        return loss(projection(encoder(batch)), labels)

    modules = nn.ModuleList([encoder, projection, loss])
    curve = context.new_loop().run(modules, step_loss, context.training_set())
    return evaluate_linearly(context, encoder, curve)


def _projection(context: Context, feature_dim: int) -> nn.Module:
    seed_globally(context.settings.seed, "head")
    first = nn.Linear(feature_dim, feature_dim)
    second = nn.Linear(feature_dim, context.training.projection_dim)
    for layer in (first, second):
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(first, nn.ReLU(), second)


def _loss(context: Context) -> nn.Module:
    part = context.settings.loss
    if part is None:
        raise ValueError("contrastive training needs a loss")
    return losses.create(
        part.name,
        num_labels=context.dataset.num_labels,
        embedding_dim=context.training.projection_dim,
        file=part.file,
        generator=generator(context.settings.seed, "loss"),
        **part.hyperparameters,
    )
