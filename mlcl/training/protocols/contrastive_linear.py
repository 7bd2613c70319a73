"""Contrastive training of the encoder, then linear evaluation of its frozen features.

Protocol of the comprehensive study (Audibert, Gauffre, Amini, arXiv 2412.00101): the loss sees a projection of the
feature, the evaluation the feature itself. One view per example, no queue.
"""

from __future__ import annotations

import torch
from torch import nn

from mlcl.encoders.base import Batch
from mlcl.training import heads
from mlcl.training.context import Context, Outcome
from mlcl.training.evaluating import evaluate_linearly


def run(context: Context) -> Outcome:
    encoder = context.new_encoder()
    projection = heads.projection(context, encoder.feature_dim)
    loss = heads.loss(context)

    def step_loss(batch: Batch, labels: torch.Tensor) -> torch.Tensor:
        return loss(projection(encoder(batch)), labels)

    modules = nn.ModuleList([encoder, projection, loss])
    curve = context.new_loop().run(modules, step_loss, context.training_set())
    return evaluate_linearly(context, encoder, curve)
