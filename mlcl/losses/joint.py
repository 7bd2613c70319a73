"""A classification loss and a contrastive loss, trained together.

    L = (1 - weight) classification(logits, labels) + weight contrastive(embeddings, labels)

Each part is a loss's name, or {name: ..., its hyperparameters}.
"""

from typing import Any

import torch
from torch import Tensor, nn

from mlcl.losses import create
from mlcl.losses._base import Loss

CITATION = "lin2023effective"


class Joint(Loss):
    title = "Joint"
    paper = "An Effective Deployment of Contrastive Learning in Multi-label Text Classification (arXiv:2212.00552)"
    equation = "(1 - weight) classification + weight contrastive"
    inputs = "both"
    allowed = ("0 <= weight <= 1",)
    parts = {"classification": "logits", "contrastive": "embeddings"}
    classification: str = "bce"
    contrastive: str = "supcon_all"
    weight: float = 0.5

    def __init__(
        self,
        num_labels: int,
        embedding_dim: int | None = None,
        generator: torch.Generator | None = None,
        **hyperparameters: Any,
    ) -> None:
        chosen = {part: hyperparameters.pop(part, getattr(self, part)) for part in self.parts}
        super().__init__(num_labels, embedding_dim, generator, **hyperparameters)
        self.losses = nn.ModuleDict()
        for part, settings in chosen.items():
            settings = {"name": settings} if isinstance(settings, str) else settings
            self.losses[part] = create(
                num_labels=num_labels, embedding_dim=embedding_dim, generator=generator, **settings
            )

    def forward(
        self,
        embeddings: Tensor,
        logits: Tensor,
        labels: Tensor,
        references: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Scalar loss of embeddings (B, D), logits (B, L) and labels (B, L)."""
        classification = self.losses["classification"](logits, labels)
        contrastive = self.losses["contrastive"](embeddings, labels, references=references)
        loss: Tensor = (1 - self.weight) * classification + self.weight * contrastive
        return loss
