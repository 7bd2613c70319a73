"""Contrastive losses on a projection of the feature, alone or with a classification loss beside."""

from __future__ import annotations

from torch import Tensor, nn

from mlcl.encoders.base import Encoder
from mlcl.training.methods.base import Method, References
from mlcl.training.methods.classification import last_linear


class Contrastive(Method):
    """A loss on the projections of a batch."""

    def __init__(self, encoder: Encoder, projection: nn.Module, loss: nn.Module) -> None:
        super().__init__(encoder)
        self.projection, self.criterion = projection, loss

    def loss(self, features: Tensor, labels: Tensor, references: References | None = None) -> Tensor:
        loss: Tensor = self.criterion(self.projection(features), labels)
        return loss


class Joint(Method):
    """A loss on the projections and on the logits of a linear head."""

    def __init__(
        self, encoder: Encoder, projection: nn.Module, classifier: nn.Sequential, loss: nn.Module
    ) -> None:
        super().__init__(encoder)
        self.projection, self.classifier, self.criterion = projection, classifier, loss

    def loss(self, features: Tensor, labels: Tensor, references: References | None = None) -> Tensor:
        loss: Tensor = self.criterion(self.projection(features), self.classifier(features), labels)
        return loss

    @property
    def head(self) -> nn.Linear:
        return last_linear(self.classifier)
