"""What is trained: an encoder, and what computes a loss from its features. Protocols choose one, the loop trains it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mlcl.encoders.base import Batch, Encoder
from mlcl.training.distributed import all_gather

Views = Sequence[Sequence[Batch]]
"""For each view its micro-batches: a single one if the whole batch goes through the encoder at once."""
References = tuple[Tensor, Tensor]
"""Embeddings (Q, D) and labels (Q, L) that a loss contrasts with."""
Module = TypeVar("Module", bound=nn.Module)


class Method(nn.Module):
    """An encoder and the loss of its features.

    The loss sees the features of a whole batch at once, whatever the size of the micro-batches.
    """

    views = 1
    """Number of views of each batch; the encoder sees the first."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def references(self, labels: Tensor, other_views: Views) -> References | None:
        """What features are contrasted with instead of each other, from the views after the first; None if nothing."""
        return None

    def loss(self, features: Tensor, labels: Tensor, references: References | None = None) -> Tensor:
        """Scalar loss of features (B, h) and labels (B, L), bool or int8 (`Context.labels`)."""
        raise NotImplementedError

    def frozen_parameters(self) -> dict[int, nn.Parameter]:
        """id -> parameter, for all of the encoder's that are never trained (below low-rank adapters)."""
        return {id(p): p for p in self.encoder.parameters() if not p.requires_grad}

    def trainable_state_dict(self) -> dict[str, Any]:
        """The state dict without frozen parameters: what a checkpoint has to hold."""
        frozen = self._frozen_names()
        return {name: value for name, value in self.state_dict().items() if name not in frozen}

    def load_trainable_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `trainable_state_dict`. Raises RuntimeError for the state of another method."""
        missing, unexpected = self.load_state_dict(state, strict=False)
        if wrong := sorted({*unexpected, *(set(missing) - self._frozen_names())}):
            raise RuntimeError(f"the state does not fit: {', '.join(wrong[:3])}")

    def _frozen_names(self) -> set[str]:
        frozen = self.frozen_parameters()
        named = self.named_parameters(remove_duplicate=False)
        return {name for name, parameter in named if id(parameter) in frozen}

    @property
    def head(self) -> nn.Linear | None:
        """The linear head, features (B, h) -> logits (B, L), if the method trains one."""
        return None

    def forward(
        self, views: Views, labels: Tensor, mark: Callable[[str], None] = lambda part: None
    ) -> Tensor:
        """The loss (scalar) of a batch of one micro-batch per view; `mark(part)` is called after each part of it."""
        features = self.encoder(views[0][0])
        references = self.references(labels, views[1:])
        mark("forward")
        loss = self.loss(features, labels, references)
        mark("loss")
        return loss


class Untrained(Method):
    """An encoder as it is; has no loss."""


class Classification(Method):
    """A loss on the logits of a classifier, which ends in the linear head."""

    def __init__(self, encoder: Encoder, classifier: nn.Sequential, loss: nn.Module) -> None:
        super().__init__(encoder)
        self.classifier, self.criterion = classifier, loss

    def loss(self, features: Tensor, labels: Tensor, references: References | None = None) -> Tensor:
        loss: Tensor = self.criterion(self.classifier(features), labels)
        return loss

    @property
    def head(self) -> nn.Linear:
        return _last_linear(self.classifier)


class OwnHeads(Method):
    """A loss on features that has heads of its own; `pi` is the one that predicts (KMCL)."""

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


class Contrastive(Method):
    """A loss on the projections of a batch."""

    def __init__(self, encoder: Encoder, projection: nn.Module, loss: nn.Module) -> None:
        super().__init__(encoder)
        self.projection, self.criterion = projection, loss

    def loss(self, features: Tensor, labels: Tensor, references: References | None = None) -> Tensor:
        loss: Tensor = self.criterion(self.projection(features), labels)
        return loss


class Joint(Method):
    """A loss on the projections and on the logits of a classifier, which ends in the linear head."""

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
        return _last_linear(self.classifier)


class MomentumQueue(Method):
    """Contrast with the keys of a momentum encoder: those of this batch, and a queue of those of the last batches.

    MulSupCon's pretraining (Zhang and Wu, AAAI 2024), after MoCo (He et al., CVPR 2020). The first view gives the
    queries. The second goes through the key encoder; before each step its weights become `momentum` * its weights +
    (1 - `momentum`) * the query encoder's, and its buffers are replaced by the query encoder's: batch-normalisation
    statistics belong to the weights that they were computed with.
    """

    views = 2
    keys: Tensor
    key_labels: Tensor

    def __init__(
        self, encoder: Encoder, projection: nn.Module, loss: nn.Module, queue_size: int, momentum: float
    ) -> None:
        super().__init__(encoder)
        self.projection, self.criterion, self.momentum = projection, loss, momentum
        self.key_encoder, self.key_projection = _momentum_copy(encoder), _momentum_copy(projection)
        num_labels: int = loss.num_labels  # type: ignore[assignment]
        width = [m for m in projection.modules() if isinstance(m, nn.Linear)][-1].out_features
        self.register_buffer("keys", torch.zeros(queue_size, width))
        self.register_buffer("key_labels", torch.zeros(queue_size, num_labels, dtype=torch.bool))
        self.filled, self.next = 0, 0

    def references(self, labels: Tensor, other_views: Views) -> References:
        """The keys of this batch and of the queue; the batch's keys are then added to the queue."""
        self._update_key_encoder()
        keys = all_gather(torch.cat([self._keys(micro_batch) for micro_batch in other_views[0]]))
        key_labels = all_gather(labels)
        # Copies: the queue is written to before the backward pass.
        references = (
            torch.cat([keys, self.keys[: self.filled]]),
            torch.cat([key_labels, self.key_labels[: self.filled]]),
        )
        self.enqueue(keys, key_labels)
        return references

    def loss(self, features: Tensor, labels: Tensor, references: References | None = None) -> Tensor:
        """Without references (validation) the batch is contrasted with itself: its rows must not enter the queue."""
        loss: Tensor = self.criterion(self.projection(features), labels, references=references)
        return loss

    @torch.no_grad()
    def _update_key_encoder(self) -> None:
        pairs = ((self.key_encoder, self.encoder), (self.key_projection, self.projection))
        key_weights: list[Tensor] = []
        query_weights: list[Tensor] = []
        for key_module, query_module in pairs:
            for key, query in zip(key_module.parameters(), query_module.parameters(), strict=True):
                if query.requires_grad:
                    key_weights.append(key)
                    query_weights.append(query)
            for key_buffer, query_buffer in zip(key_module.buffers(), query_module.buffers(), strict=True):
                key_buffer.copy_(query_buffer)
        torch._foreach_lerp_(key_weights, query_weights, 1 - self.momentum)

    @torch.no_grad()
    def _keys(self, view: Batch) -> Tensor:
        return F.normalize(self.key_projection(self.key_encoder(view)).float(), dim=1)

    @torch.no_grad()
    def enqueue(self, keys: Tensor, labels: Tensor) -> None:
        """Replaces the oldest keys; of a batch larger than the queue, only the last rows are stored."""
        size = len(self.keys)
        keys, labels = keys[-size:], labels[-size:]
        first = min(len(keys), size - self.next)
        for queue, new in ((self.keys, keys), (self.key_labels, labels)):
            queue[self.next : self.next + first] = new[:first]
            queue[: len(new) - first] = new[first:]
        self.next = (self.next + len(keys)) % size
        self.filled = min(self.filled + len(keys), size)

    def get_extra_state(self) -> dict[str, int]:
        return {"filled": self.filled, "next": self.next}

    def set_extra_state(self, state: dict[str, int]) -> None:
        self.filled, self.next = state["filled"], state["next"]


def _momentum_copy(module: Module) -> Module:
    """A copy without gradients; parameters that are never trained (below low-rank adapters) are shared with it."""
    shared = {id(p): p for p in module.parameters() if not p.requires_grad}
    return deepcopy(module, shared).requires_grad_(False)


def _last_linear(classifier: nn.Sequential) -> nn.Linear:
    last = classifier[-1]
    assert isinstance(last, nn.Linear)
    return last
