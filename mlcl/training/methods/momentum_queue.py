"""Contrast with the keys of a slowly following encoder, this batch's and those of the last batches."""

from __future__ import annotations

from copy import deepcopy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mlcl.encoders.base import Batch, Encoder
from mlcl.training.methods.base import Method, References, Views
from mlcl.training.processes import gathered

Module = TypeVar("Module", bound=nn.Module)


class MomentumQueue(Method):
    """MulSupCon's pretraining (Zhang and Wu, AAAI 2024), after MoCo (He et al., CVPR 2020).

    The query comes from the first view; the second goes through the key encoder, which takes over the share
    1 - `momentum` of the query encoder's weights before each step, and all of its buffers: statistics of batch
    normalisation belong to the weights that they were taken with.
    """

    views = 2
    keys: Tensor
    key_labels: Tensor

    def __init__(
        self, encoder: Encoder, projection: nn.Module, loss: nn.Module, queue_size: int, momentum: float
    ) -> None:
        super().__init__(encoder)
        self.projection, self.criterion, self.momentum = projection, loss, momentum
        self.key_encoder, self.key_projection = _follower(encoder), _follower(projection)
        num_labels: int = loss.num_labels  # type: ignore[assignment]
        width = [m for m in projection.modules() if isinstance(m, nn.Linear)][-1].out_features
        self.register_buffer("keys", torch.zeros(queue_size, width))
        self.register_buffer("key_labels", torch.zeros(queue_size, num_labels, dtype=torch.bool))
        self.filled, self.next = 0, 0

    def references(self, labels: Tensor, others: Views) -> References:
        """The keys of this batch and of the queue, into which those of this batch then go."""
        self._follow()
        keys, key_labels = gathered(torch.cat([self._keys(piece) for piece in others[0]])), gathered(labels)
        # Copies: the queue is written to before the backward pass.
        references = (
            torch.cat([keys, self.keys[: self.filled]]),
            torch.cat([key_labels, self.key_labels[: self.filled]]),
        )
        self._enqueue(keys, key_labels)
        return references

    def loss(self, features: Tensor, labels: Tensor, references: References | None = None) -> Tensor:
        """Without references within the batch: rows that are not trained on have no place in the queue."""
        loss: Tensor = self.criterion(self.projection(features), labels, references=references)
        return loss

    @torch.no_grad()
    def _follow(self) -> None:
        pairs = ((self.key_encoder, self.encoder), (self.key_projection, self.projection))
        own: list[Tensor] = []
        others: list[Tensor] = []
        for follower, leader in pairs:
            for parameter, other in zip(follower.parameters(), leader.parameters(), strict=True):
                if other.requires_grad:
                    own.append(parameter)
                    others.append(other)
            for buffer, source in zip(follower.buffers(), leader.buffers(), strict=True):
                buffer.copy_(source)
        torch._foreach_lerp_(own, others, 1 - self.momentum)

    @torch.no_grad()
    def _keys(self, view: Batch) -> Tensor:
        return F.normalize(self.key_projection(self.key_encoder(view)).float(), dim=1)

    @torch.no_grad()
    def _enqueue(self, keys: Tensor, labels: Tensor) -> None:
        """Takes the oldest keys' places; of a batch larger than the queue, the last rows remain."""
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


def _follower(leader: Module) -> Module:
    """A copy without gradients; weights that are never trained (below low-rank adapters) are shared with it."""
    shared = {id(p): p for p in leader.parameters() if not p.requires_grad}
    return deepcopy(leader, shared).requires_grad_(False)
