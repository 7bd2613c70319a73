"""End-to-end training with a classification loss: dropout and a linear head on the feature.

The classification baselines of the comprehensive study (arXiv 2412.00101); the same optimiser as for the
contrastive losses, scores by the sigmoid.
"""

from __future__ import annotations

import torch
from torch import nn

from mlcl.encoders.base import Batch
from mlcl.training import heads
from mlcl.training.context import Context, Outcome


def run(context: Context) -> Outcome:
    encoder = context.new_encoder()
    classifier = heads.classifier(context, encoder.feature_dim)
    loss = heads.loss(context)

    def step_loss(batch: Batch, labels: torch.Tensor) -> torch.Tensor:
        return loss(classifier(encoder(batch)), labels)

    modules = nn.ModuleList([encoder, classifier, loss])
    curve = context.new_loop().run(modules, step_loss, context.training_set())
    return heads.classify(context, encoder, classifier, curve)
