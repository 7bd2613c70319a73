"""A classification loss on the logits and a contrastive one on the projection, trained together, end to end.

The weighted sum of CL-MTC (Lin et al., arXiv 2212.00552); scores by the sigmoid of the logits.
"""

from __future__ import annotations

import torch
from torch import nn

from mlcl.encoders.base import Batch
from mlcl.training import heads
from mlcl.training.context import Context, Outcome


def run(context: Context) -> Outcome:
    encoder = context.new_encoder()
    projection = heads.projection(context, encoder.feature_dim)
    classifier = heads.classifier(context, encoder.feature_dim)
    loss = heads.loss(context)

    def step_loss(batch: Batch, labels: torch.Tensor) -> torch.Tensor:
        features = encoder(batch)
        return loss(projection(features), classifier(features), labels)

    modules = nn.ModuleList([encoder, projection, classifier, loss])
    curve = context.new_loop().run(modules, step_loss, context.training_set())
    return heads.classify(context, encoder, classifier, curve)
