"""The trainable layer on the stored features of a frozen encoder."""

from __future__ import annotations

import torch
from torch import nn

from mlcl.encoders.base import Encoder


class Adapter(Encoder):
    """Linear(h, width)-ReLU on stored features; trained in the encoder's place, in the same way for all losses.

    Without it a contrastive loss would change nothing that is evaluated. `width` None: h. `active=False`: the features
    unchanged.
    """

    def __init__(self, feature_dim: int, active: bool, width: int | None = None) -> None:
        super().__init__()
        self.feature_dim = (width or feature_dim) if active else feature_dim
        layer = nn.Sequential(nn.Linear(feature_dim, self.feature_dim), nn.ReLU())
        self.layer: nn.Module = layer if active else nn.Identity()

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Stored features (B, h) -> features (B, `feature_dim`)."""
        adapted: torch.Tensor = self.layer(features)
        return adapted
