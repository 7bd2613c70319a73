"""What the loop asks of what it trains."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from mlcl.encoders.base import Batch, Encoder

Views = Sequence[Sequence[Batch]]
"""View -> the batch in pieces, which are one as long as the whole batch goes through the encoder at once."""


class Method(nn.Module):
    """An encoder, and the loss of its features.

    The loss sees the features of a whole batch at once, however many rows go through the encoder together.
    """

    views = 1
    """How many views of each batch there are; the encoder sees the first."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def loss(self, features: Tensor, labels: Tensor, others: Views) -> Tensor:
        """Scalar loss of features (B, h) and labels (B, L) bool; `others` are the views beyond the first."""
        raise NotImplementedError

    def validation_loss(self, features: Tensor, labels: Tensor) -> Tensor:
        """The loss of rows that are not trained on."""
        return self.loss(features, labels, ())

    @property
    def head(self) -> nn.Linear | None:
        """What makes logits (B, L) of features (B, h), if the method trains it."""
        return None

    def forward(
        self, views: Views, labels: Tensor, mark: Callable[[str], None] = lambda part: None
    ) -> Tensor:
        """The loss of a batch, seen whole; `mark` is told when a part of the step is over."""
        features = self.encoder(views[0][0])
        mark("forward")
        loss = self.loss(features, labels, views[1:])
        mark("loss")
        return loss


class Untrained(Method):
    """An encoder as it is."""
