"""The contrastive losses as one would first write them down: whole (B, B, L) tensors, and autograd for the rest.

The yardstick of `benchmarks/losses.py`. These follow the equations of the papers term by term, the way the
published implementations are built, and equal the golden values of the official code (tests/losses). They are
not meant for use: memory grows with B * B * L and awkward batches give NaN.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import normalize

EPSILON = 1e-8


def log_probabilities(anchors: Tensor, references: Tensor, temperature: float, exclude_self: bool) -> Tensor:
    """s_ik - log sum_a exp s_ia, with the diagonal left out of the sum where asked for."""
    scores = anchors @ references.T / temperature
    if not exclude_self:
        return scores.log_softmax(1)
    others = off_diagonal(len(scores), scores)
    shifted = scores - (scores * others).max(1, keepdim=True).values.detach()
    return shifted - (shifted.exp() * others).sum(1, keepdim=True).log()


def both(labels: Tensor, others: Tensor) -> Tensor:
    """(n, m, L): 1 where both items carry the label."""
    return labels[:, None, :] * others[None, :, :]


def off_diagonal(n: int, like: Tensor) -> Tensor:
    return 1 - torch.eye(n, dtype=like.dtype, device=like.device)


def supcon_any(embeddings: Tensor, labels: Tensor, prototypes: Tensor | None, temperature: float) -> Tensor:
    z = normalize(embeddings)
    positives = (both(labels, labels).sum(2) > 0).to(z) * off_diagonal(len(z), z)
    log_p = log_probabilities(z, z, temperature, exclude_self=True)
    return -((positives * log_p).sum(1) / positives.sum(1).clamp_min(1)).mean()


def supcon_all(embeddings: Tensor, labels: Tensor, prototypes: Tensor | None, temperature: float) -> Tensor:
    z = normalize(embeddings)
    positives = (labels[:, None, :] == labels[None, :, :]).all(2).to(z) * off_diagonal(len(z), z)
    log_p = log_probabilities(z, z, temperature, exclude_self=True)
    return -((positives * log_p).sum(1) / positives.sum(1).clamp_min(1)).mean()


def jaccard(embeddings: Tensor, labels: Tensor, prototypes: Tensor | None, temperature: float) -> Tensor:
    z = normalize(embeddings)
    shared = both(labels, labels).sum(2)
    union = torch.maximum(labels[:, None, :], labels[None, :, :]).sum(2)
    similarity = shared / (union + EPSILON) * off_diagonal(len(z), z)
    weights = similarity / (similarity.sum(1, keepdim=True) + EPSILON)
    log_p = log_probabilities(z, z, temperature, exclude_self=True)
    return -(weights * log_p).sum() / ((similarity.sum(1) > 0).sum() + EPSILON)


def simdissim(embeddings: Tensor, labels: Tensor, prototypes: Tensor | None, temperature: float) -> Tensor:
    z = normalize(embeddings)
    shared = both(labels, labels).sum(2)
    surplus = ((1 - labels)[:, None, :] * labels[None, :, :]).sum(2)
    weights = shared / labels.sum(1, keepdim=True).clamp_min(1) / (1 + surplus) * off_diagonal(len(z), z)
    log_p = log_probabilities(z, z, temperature, exclude_self=True)
    return -((weights * log_p).sum(1) / (weights > 0).sum(1).clamp_min(1)).mean()


def mulsupcon(embeddings: Tensor, labels: Tensor, prototypes: Tensor | None, temperature: float) -> Tensor:
    z = normalize(embeddings)
    positives = both(labels, labels) * off_diagonal(len(z), z)[:, :, None]
    log_p = log_probabilities(z, z, temperature, exclude_self=True)
    per_label = -(positives * log_p[:, :, None]).sum(1) / positives.sum(1).clamp_min(1)
    return per_label.sum() / labels.sum()


def prototype(embeddings: Tensor, labels: Tensor, prototypes: Tensor | None, temperature: float) -> Tensor:
    assert prototypes is not None
    log_p = log_probabilities(normalize(embeddings), normalize(prototypes), temperature, exclude_self=False)
    return -((labels * log_p).sum(1) / labels.sum(1)).mean()


def abalone(
    embeddings: Tensor,
    labels: Tensor,
    prototypes: Tensor | None,
    temperature: float,
    alpha: float = 1.0,
    beta: float = 0.1,
) -> Tensor:
    assert prototypes is not None
    z, c = normalize(embeddings), normalize(prototypes)
    others = off_diagonal(len(z), z)
    to_items, to_prototypes = z @ z.T / temperature, z @ c.T / temperature
    highest = torch.cat([to_items * others, to_prototypes], 1).max(1, keepdim=True).values.detach()
    items = ((to_items - highest).exp() * others).sum(1) * beta
    log_denominator = (items + (to_prototypes - highest).exp().sum(1)).log()[:, None] + highest
    union = torch.maximum(labels[:, None, :], labels[None, :, :]).sum(2)
    u = alpha / union * others
    positives = both(labels, labels) * u[:, :, None]
    normaliser = 1 + EPSILON + positives.sum(1)
    surprise = (positives * (log_denominator - to_items)[:, :, None]).sum(1) + log_denominator - to_prototypes
    return ((labels * surprise / normaliser).sum(1) / labels.sum(1)).mean()


def reg_ablated(
    embeddings: Tensor, labels: Tensor, prototypes: Tensor | None, temperature: float, alpha: float = 0.0
) -> Tensor:
    return _reg(embeddings, labels, prototypes, temperature, alpha, regularised=False)


def reg(
    embeddings: Tensor, labels: Tensor, prototypes: Tensor | None, temperature: float, alpha: float = 0.0
) -> Tensor:
    return _reg(embeddings, labels, prototypes, temperature, alpha, regularised=True)


def _reg(
    embeddings: Tensor,
    labels: Tensor,
    prototypes: Tensor | None,
    temperature: float,
    alpha: float,
    regularised: bool,
) -> Tensor:
    assert prototypes is not None
    items = torch.cat([normalize(embeddings), normalize(prototypes)])
    carried = torch.cat([labels, torch.eye(labels.shape[1], dtype=labels.dtype, device=labels.device)])
    others = off_diagonal(len(items), items)
    shared_labels = both(carried, carried)
    x = shared_labels.sum(2) / carried.sum(1)
    f = (x**alpha if alpha >= 0 else (x >= 1 - EPSILON).to(x)) * others
    spread = shared_labels * f[:, :, None]
    weights = (spread / (spread.sum(1, keepdim=True) + EPSILON)).sum(2) / carried.sum(1, keepdim=True)
    scores = items @ items.T / temperature
    log_p = log_probabilities(items, items, temperature, exclude_self=True)
    positives = (weights != 0).to(weights)
    anchors = positives.any(1).sum()
    value = -(weights * log_p).sum() / anchors
    if regularised:
        excess = (log_p.exp().detach() - weights).clamp_min(0) * positives
        value = value - (excess * scores).sum() / anchors
    return value


TRANSCRIPTIONS: dict[str, Callable[..., Tensor]] = {
    function.__name__: function
    for function in (
        supcon_any,
        supcon_all,
        jaccard,
        simdissim,
        mulsupcon,
        prototype,
        abalone,
        reg_ablated,
        reg,
    )
}
