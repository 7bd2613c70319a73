"""Classification losses: on the logits of a linear head, or on features with heads of the loss's own."""

from __future__ import annotations

from torch import Tensor, nn

from mlcl.encoders.base import Encoder
from mlcl.training.methods.base import Method, References


class Classification(Method):
    """A loss on logits; `classifier` ends in the linear head."""

    def __init__(self, encoder: Encoder, classifier: nn.Sequential, loss: nn.Module) -> None:
        super().__init__(encoder)
        self.classifier, self.criterion = classifier, loss

    def loss(self, features: Tensor, labels: Tensor, references: References | None = None) -> Tensor:
        loss: Tensor = self.criterion(self.classifier(features), labels)
        return loss

    @property
    def head(self) -> nn.Linear:
        return last_linear(self.classifier)


class OwnHeads(Method):
    """A loss on features that brings its heads along; `pi` is the one that predicts (KMCL)."""

    def __init__(self, encoder: Encoder, loss: nn.Module) -> None:
        super().__init__(encoder)
        self.criterion = loss

    def loss(self, features: Tensor, labels: Tensor, references: References | None = None) -> Tensor:
        loss: Tensor = self.criterion(features, labels)
        return loss

    @property
    def head(self) -> nn.Linear:
        pi = self.criterion.pi
        assert isinstance(pi, nn.Linear)
        return pi


def last_linear(classifier: nn.Sequential) -> nn.Linear:
    last = classifier[-1]
    assert isinstance(last, nn.Linear)
    return last
