"""End-to-end training with a classification loss: dropout and a linear head on the feature.

The classification baselines of the comprehensive study (arXiv 2412.00101); the same optimiser as for the
contrastive losses, scores by the sigmoid.
"""

from __future__ import annotations

import torch
from torch import nn

from mlcl import losses
from mlcl.training.batches import Batch
from mlcl.training.context import EVALUATED, Context, Outcome
from mlcl.training.seeding import seed_globally


def run(context: Context) -> Outcome:
    encoder = context.new_encoder()
    seed_globally(context.settings.seed, "head")
    head = nn.Sequential(
        nn.Dropout(context.training.head_dropout),
        nn.Linear(encoder.feature_dim, context.dataset.num_labels),
    ).to(context.device)
    part = context.settings.loss
    if part is None:
        raise ValueError("end-to-end training needs a loss")
    loss = losses.create(
        part.name, num_labels=context.dataset.num_labels, file=part.file, **part.hyperparameters
    ).to(context.device)

    def step_loss(batch: Batch, labels: torch.Tensor) -> torch.Tensor:
        return loss(head(encoder(batch)), labels)

    modules = nn.ModuleList([encoder, head, loss])
    curve = context.new_loop().run(modules, step_loss, context.training_set())
    features = {split: context.encode(encoder, split) for split in EVALUATED}
    with torch.no_grad():
        scores = {split: torch.sigmoid(head(features[split])) for split in EVALUATED}
    return Outcome(
        scores={split: values.cpu().numpy() for split, values in scores.items()},
        features={split: values.cpu().numpy() for split, values in features.items()},
        curve=curve,
    )
