"""What the loop asks of what it trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from mlcl.encoders.base import Batch, Encoder

Views = Sequence[Sequence[Batch]]
"""View -> the batch in pieces, which are one as long as the whole batch goes through the encoder at once."""
References = tuple[Tensor, Tensor]
"""Embeddings (Q, D) and labels (Q, L)."""


class Method(nn.Module):
    """An encoder, and the loss of its features.

    The loss sees the features of a whole batch at once, however many rows go through the encoder together.
    """

    views = 1
    """How many views of each batch there are; the encoder sees the first."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def references(self, labels: Tensor, others: Views) -> References | None:
        """What the features are contrasted with instead of each other, from the views beyond the first."""
        return None

    def loss(self, features: Tensor, labels: Tensor, references: References | None = None) -> Tensor:
        """Scalar loss of features (B, h) and labels (B, L) bool."""
        raise NotImplementedError

    def kept(self) -> dict[int, nn.Parameter]:
        """id -> weight of the encoder that is never trained (below low-rank adapters)."""
        return {id(p): p for p in self.encoder.parameters() if not p.requires_grad}

    def changing_state(self) -> dict[str, Any]:
        """The state without the weights that are kept: what a checkpoint has to hold."""
        return {name: value for name, value in self.state_dict().items() if name not in self._kept_names()}

    def load_changing_state(self, state: Mapping[str, Any]) -> None:
        """The inverse of `changing_state`. Raises RuntimeError where the state is another method's."""
        missing, unexpected = self.load_state_dict(state, strict=False)
        if wrong := sorted({*unexpected, *(set(missing) - self._kept_names())}):
            raise RuntimeError(f"the state does not fit: {', '.join(wrong[:3])}")

    def _kept_names(self) -> set[str]:
        kept = self.kept()
        named = self.named_parameters(remove_duplicate=False)
        return {name for name, parameter in named if id(parameter) in kept}

    @property
    def head(self) -> nn.Linear | None:
        """What makes logits (B, L) of features (B, h), if the method trains it."""
        return None

    def forward(
        self, views: Views, labels: Tensor, mark: Callable[[str], None] = lambda part: None
    ) -> Tensor:
        """The loss of a batch, seen whole; `mark` is told when a part of the step is over."""
        features = self.encoder(views[0][0])
        references = self.references(labels, views[1:])
        mark("forward")
        loss = self.loss(features, labels, references)
        mark("loss")
        return loss


class Untrained(Method):
    """An encoder as it is."""
