"""Gradient caching: the gradient of a batch that does not fit through the encoder at once (GradCache).

Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup" (RepL4NLP 2021): compute the
features of each micro-batch without a graph; compute the loss of all features and its gradient for them; then pass
each micro-batch through the encoder once more with a graph and backpropagate its part of that gradient. Memory is
that of one micro-batch, and the loss sees the whole batch. Batch normalisation sees micro-batches, as it does on
several devices.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mlcl.training import distributed
from mlcl.training.methods import Method, Views
from mlcl.training.step_timer import StepTimer

if TYPE_CHECKING:
    from accelerate import Accelerator


def cached_backward(
    method: Method, views: Views, labels: Tensor, accelerator: Accelerator, timer: StepTimer
) -> Tensor:
    """The loss (scalar) of a batch whose views are split into micro-batches; leaves the gradients in the parameters."""
    states, parts = [], []
    buffers = [buffer.clone() for buffer in method.encoder.buffers()]
    with torch.no_grad(), accelerator.autocast():
        for micro_batch in views[0]:
            states.append(_random_state())
            parts.append(method.encoder(micro_batch))
        # Running statistics are updated in the second pass only.
        for buffer, before in zip(method.encoder.buffers(), buffers, strict=True):
            buffer.copy_(before)
        references = method.references(labels, views[1:])
    timer.mark("forward")
    features = torch.cat(parts).detach().requires_grad_()
    with accelerator.autocast():
        loss = method.loss(features, labels, references)
    timer.mark("loss")
    accelerator.backward(loss)
    assert features.grad is not None
    after = _random_state()
    for micro_batch, state, gradient in zip(
        views[0], states, features.grad.split([len(part) for part in parts]), strict=True
    ):
        _set_random_state(state)  # the same dropout as in the first pass
        with accelerator.autocast():
            part = method.encoder(micro_batch)
        part.backward(gradient)
    _set_random_state(after)
    distributed.average_gradients(method)
    timer.mark("backward")
    return loss


def _random_state() -> tuple[Tensor, Tensor | None]:
    on_gpu = torch.cuda.is_available() and torch.cuda.is_initialized()
    return torch.get_rng_state(), torch.cuda.get_rng_state() if on_gpu else None


def _set_random_state(state: tuple[Tensor, Tensor | None]) -> None:
    host, device = state
    torch.set_rng_state(host)
    if device is not None:
        torch.cuda.set_rng_state(device)
