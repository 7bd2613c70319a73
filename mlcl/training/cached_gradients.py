"""The gradient of a batch that does not fit through the encoder at once.

Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup" (RepL4NLP 2021): features
without a graph, piece by piece; the loss of all of them and its gradient for the features; then each piece once more
with a graph, into which its part of that gradient goes. Memory is that of a piece, the loss sees the whole batch.
Batch normalisation sees pieces, as it does on several devices.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mlcl.training import processes
from mlcl.training.clock import StepClock
from mlcl.training.methods.base import Method, Views

if TYPE_CHECKING:
    from accelerate import Accelerator


def backward_in_parts(
    method: Method, views: Views, labels: Tensor, accelerator: Accelerator, clock: StepClock
) -> Tensor:
    """The loss of the batch whose views are given in pieces; leaves the gradients in the parameters."""
    states, parts = [], []
    buffers = [buffer.clone() for buffer in method.encoder.buffers()]
    with torch.no_grad(), accelerator.autocast():
        for piece in views[0]:
            states.append(_random_state())
            parts.append(method.encoder(piece))
        # Running statistics are to take in each piece once, in the pass that follows.
        for buffer, before in zip(method.encoder.buffers(), buffers, strict=True):
            buffer.copy_(before)
        references = method.references(labels, views[1:])
    clock.mark("forward")
    features = torch.cat(parts).detach().requires_grad_()
    with accelerator.autocast():
        loss = method.loss(features, labels, references)
    clock.mark("loss")
    accelerator.backward(loss)
    assert features.grad is not None
    after = _random_state()
    for piece, state, gradient in zip(
        views[0], states, features.grad.split([len(part) for part in parts]), strict=True
    ):
        _set_random_state(state)  # the same dropout as in the first pass
        with accelerator.autocast():
            again = method.encoder(piece)
        again.backward(gradient)
    _set_random_state(after)
    processes.average_gradients(method)
    clock.mark("backward")
    return loss


def _random_state() -> tuple[Tensor, Tensor | None]:
    on_gpu = torch.cuda.is_available() and torch.cuda.is_initialized()
    return torch.get_rng_state(), torch.cuda.get_rng_state() if on_gpu else None


def _set_random_state(state: tuple[Tensor, Tensor | None]) -> None:
    host, device = state
    torch.set_rng_state(host)
    if device is not None:
        torch.cuda.set_rng_state(device)
