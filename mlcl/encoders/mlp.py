"""A multi-layer perceptron for vectors."""

from __future__ import annotations

import torch
from torch import nn

from mlcl.encoders.base import Encoder
from mlcl.encoders.catalog import InputShape, MlpSettings


class Mlp(Encoder):
    """Standardises its input by a batch normalisation without parameters, then Linear-BatchNorm-ReLU layers."""

    def __init__(self, dimensions: int, hidden: list[int], input_dropout: float) -> None:
        super().__init__()
        self.feature_dim = hidden[-1]
        layers: list[nn.Module] = [nn.BatchNorm1d(dimensions, affine=False), nn.Dropout(input_dropout)]
        for inputs, outputs in zip([dimensions, *hidden], hidden, strict=False):
            layers += [nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.ReLU()]
        self.layers = nn.Sequential(*layers)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Vectors (B, F) -> features (B, feature_dim)."""
        return self.layers(vectors)


def build(settings: MlpSettings, inputs: InputShape) -> Mlp:
    return Mlp(inputs.dimensions, list(settings.hidden), settings.input_dropout)
