"""Every loss once more, as its paper's equation read aloud: loops over pairs and labels, sets for label sets.

`REFERENCES[name](loss, inputs, labels, references)` takes the loss (for its hyperparameters and prototypes), its
inputs by name, labels (B, L) and optionally references, and returns a scalar with a graph for the gradients.
Nothing here is shared with the package.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Item = tuple[Tensor, frozenset[int], object]  # unit vector, label set, identity (to exclude the item itself)
REFERENCES: dict[str, Callable[..., Tensor]] = {}


def reference(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    REFERENCES[function.__name__] = function
    return function


def unit(vector: Tensor) -> Tensor:
    return vector / vector.norm() if vector.norm() > 0 else vector


def sets(labels: Tensor) -> list[frozenset[int]]:
    return [frozenset(int(label) for label in row.nonzero()) for row in labels]


def batch(inputs: dict[str, Tensor], labels: Tensor) -> list[Item]:
    return [
        (unit(z), y, ("item", i))
        for i, (z, y) in enumerate(zip(inputs["embeddings"], sets(labels), strict=True))
    ]


def others(inputs: dict[str, Tensor], labels: Tensor, references: tuple[Tensor, Tensor] | None) -> list[Item]:
    if references is None:
        return batch(inputs, labels)
    return [
        (unit(z), y, ("reference", i))
        for i, (z, y) in enumerate(zip(references[0], sets(references[1]), strict=True))
    ]


def prototypes(loss: Any) -> list[Item]:
    return [(unit(c), frozenset([label]), ("prototype", label)) for label, c in enumerate(loss.prototypes)]


def without(anchor: Item, items: list[Item]) -> list[Item]:
    return [item for item in items if item[2] != anchor[2]]


def similarity(loss: Any, anchor: Item, item: Item) -> Tensor:
    return anchor[0] @ item[0] / loss.temperature


def log_sum(scores: list[Tensor]) -> Tensor:
    return torch.stack(scores).logsumexp(0)


def surprise(loss: Any, anchor: Item, positive: Item, items: list[Item]) -> Tensor:
    """- log of the positive's share among the items."""
    return log_sum([similarity(loss, anchor, k) for k in items]) - similarity(loss, anchor, positive)


def mean(terms: list[Tensor], count: float, like: Tensor) -> Tensor:
    return (torch.stack(terms).sum() if terms else 0 * like.sum()) / max(count, 1)


def weighted(
    loss: Any, inputs: dict[str, Tensor], labels: Tensor, references: Any, weight: Callable[..., float]
) -> list[Tensor]:
    """For each anchor that has positives, sum_k weight(anchor, k, items) * surprise of k."""
    rows = []
    for anchor in batch(inputs, labels):
        items = without(anchor, others(inputs, labels, references))
        weights = [weight(anchor[1], item[1], [other[1] for other in items]) for item in items]
        terms = [w * surprise(loss, anchor, k, items) for w, k in zip(weights, items, strict=True) if w > 0]
        if terms:
            rows.append(torch.stack(terms).sum())
    return rows


@reference
def supcon_any(loss: Any, inputs: Any, labels: Tensor, references: Any = None) -> Tensor:
    def weight(y: Any, t: Any, all_sets: Any) -> float:
        return 1 / sum(bool(y & s) for s in all_sets) if y & t else 0

    return mean(weighted(loss, inputs, labels, references, weight), len(labels), inputs["embeddings"])


@reference
def supcon_all(loss: Any, inputs: Any, labels: Tensor, references: Any = None) -> Tensor:
    def weight(y: Any, t: Any, all_sets: Any) -> float:
        return 1 / sum(y == s for s in all_sets) if y == t else 0

    return mean(weighted(loss, inputs, labels, references, weight), len(labels), inputs["embeddings"])


@reference
def jaccard(loss: Any, inputs: Any, labels: Tensor, references: Any = None) -> Tensor:
    def weight(y: Any, t: Any, all_sets: Any) -> float:
        return (
            len(y & t) / len(y | t) / sum(len(y & s) / len(y | s) for s in all_sets if y | s) if y & t else 0
        )

    rows = weighted(loss, inputs, labels, references, weight)
    return mean(rows, len(rows), inputs["embeddings"])


@reference
def multisupcon(loss: Any, inputs: Any, labels: Tensor, references: Any = None) -> Tensor:
    def index(y: Any, t: Any) -> float:
        return len(y & t) / len(y | t) if y | t else 1

    def weight(y: Any, t: Any, all_sets: Any) -> float:
        positives = sum(index(y, s) >= loss.threshold for s in all_sets)
        return index(y, t) / positives if index(y, t) >= loss.threshold else 0

    return mean(weighted(loss, inputs, labels, references, weight), len(labels), inputs["embeddings"])


@reference
def gma_scl(loss: Any, inputs: Any, labels: Tensor, references: Any = None) -> Tensor:
    alike, idf = loss.label_similarity.tolist(), loss.label_idf.tolist()

    def matched(y: Any, t: Any) -> float:
        best = [idf[a] * max((alike[a][b] for b in t), default=0.0) for a in y]
        return sum(best) / sum(idf[a] for a in y) if y else 0.0

    def target(y: Any, t: Any) -> float:
        forth, back = matched(y, t), matched(t, y)
        harmonic = 2 * forth * back / (forth + back) if forth + back else 0.0
        return math.exp(harmonic / loss.target_temperature)

    def weight(y: Any, t: Any, all_sets: Any) -> float:
        return target(y, t) / sum(target(y, s) for s in all_sets) if y else 0

    return mean(weighted(loss, inputs, labels, references, weight), len(labels), inputs["embeddings"])


@reference
def overlap(loss: Any, inputs: Any, labels: Tensor, references: Any = None) -> Tensor:
    def weight(y: Any, t: Any, all_sets: Any) -> float:
        return len(y & t) / sum(len(y & s) for s in all_sets) if y & t else 0

    return mean(weighted(loss, inputs, labels, references, weight), len(labels), inputs["embeddings"])


@reference
def simdissim(loss: Any, inputs: Any, labels: Tensor, references: Any = None) -> Tensor:
    def weight(y: Any, t: Any, all_sets: Any) -> float:
        if not y & t:
            return 0
        similarity, dissimilarity = len(y & t) / len(y), 1 / (1 + len(t - y))
        factor = {"similarity": similarity, "dissimilarity": dissimilarity}
        return factor.get(loss.kind, similarity * dissimilarity) / sum(bool(y & s) for s in all_sets)

    return mean(weighted(loss, inputs, labels, references, weight), len(labels), inputs["embeddings"])


@reference
def mulsupcon(loss: Any, inputs: Any, labels: Tensor, references: Any = None) -> Tensor:
    terms = []
    for anchor in batch(inputs, labels):
        items = without(anchor, others(inputs, labels, references))
        for label in anchor[1]:
            positives = [k for k in items if label in k[1]]
            omega = 1 / (len(anchor[1]) * len(labels)) if loss.per_anchor else 1 / labels.sum().item()
            terms += [omega / len(positives) * surprise(loss, anchor, k, items) for k in positives]
    return mean(terms, 1, inputs["embeddings"])


@reference
def stepwise(loss: Any, inputs: Any, labels: Tensor, references: Any = None) -> Tensor:
    terms, num_labels = [], labels.shape[1]
    for anchor in batch(inputs, labels):
        items = without(anchor, others(inputs, labels, references))
        for label in range(num_labels):
            positives = [k for k in items if (label in k[1]) == (label in anchor[1])]
            terms += [surprise(loss, anchor, k, items) / len(positives) / num_labels for k in positives]
    return mean(terms, len(labels), inputs["embeddings"])


@reference
def prototype(loss: Any, inputs: Any, labels: Tensor, references: Any = None) -> Tensor:
    items, terms = prototypes(loss), []
    for anchor in batch(inputs, labels):
        terms += [surprise(loss, anchor, items[label], items) / len(anchor[1]) for label in anchor[1]]
    return mean(terms, len(labels), inputs["embeddings"])


@reference
def abalone(loss: Any, inputs: Any, labels: Tensor, references: Any = None) -> Tensor:
    terms, own = [], prototypes(loss)
    for anchor in batch(inputs, labels):
        items = without(anchor, others(inputs, labels, references))
        scores = [similarity(loss, anchor, k) + math.log(loss.beta) for k in items]
        log_denominator = log_sum(scores + [similarity(loss, anchor, c) for c in own])
        for label in anchor[1]:
            u = {k[2]: loss.alpha / len(anchor[1] | k[1]) for k in items if label in k[1]}
            inner = log_denominator - similarity(loss, anchor, own[label])
            for k in items:
                if label in k[1]:
                    inner = inner + u[k[2]] * (log_denominator - similarity(loss, anchor, k))
            terms.append(inner / (1 + sum(u.values())) / len(anchor[1]))
    return mean(terms, len(labels), inputs["embeddings"])


def _reg(loss: Any, inputs: Any, labels: Tensor, references: Any, regularised: bool) -> Tensor:
    def f(y: frozenset[int], t: frozenset[int]) -> float:
        x = len(y & t) / max(len(t), 1)
        return x**loss.alpha if loss.alpha >= 0 else float(x >= 1 - 1e-8)

    rows = []
    for anchor in batch(inputs, labels) + prototypes(loss):
        items = without(anchor, others(inputs, labels, references) + prototypes(loss))
        terms = []
        for k in items:
            weight = 0.0
            for label in anchor[1] & k[1]:
                total = sum(f(anchor[1], m[1]) for m in items if label in m[1])
                weight += f(anchor[1], k[1]) / total / len(anchor[1]) if total else 0
            if weight > 0:
                terms.append(weight * surprise(loss, anchor, k, items))
                if regularised:
                    sigma = math.exp(-surprise(loss, anchor, k, items).item())
                    terms.append(-max(sigma - weight, 0) * similarity(loss, anchor, k))
        if terms:
            rows.append(torch.stack(terms).sum())
    return mean(rows, len(rows), inputs["embeddings"])


@reference
def reg_ablated(loss: Any, inputs: Any, labels: Tensor, references: Any = None) -> Tensor:
    return _reg(loss, inputs, labels, references, regularised=False)


@reference
def reg(loss: Any, inputs: Any, labels: Tensor, references: Any = None) -> Tensor:
    return _reg(loss, inputs, labels, references, regularised=True)


def per_element(
    inputs: Any, labels: Tensor, term: Callable[[Tensor, bool], Tensor], reduction: str = "mean"
) -> Tensor:
    logits = inputs["logits"]
    terms = [term(x, bool(y)) for x, y in zip(logits.flatten(), labels.flatten(), strict=True)]
    return mean(terms, len(terms) if reduction == "mean" else 1, logits)


def log_sigmoid(x: Tensor) -> Tensor:
    return -torch.log1p(torch.exp(-x)) if x > 0 else x - torch.log1p(torch.exp(x))


@reference
def bce(loss: Any, inputs: Any, labels: Tensor) -> Tensor:
    return per_element(inputs, labels, lambda x, y: -log_sigmoid(x if y else -x))


@reference
def focal(loss: Any, inputs: Any, labels: Tensor) -> Tensor:
    def term(x: Tensor, y: bool) -> Tensor:
        log_q = log_sigmoid(x if y else -x)
        return -((1 - log_q.exp()) ** loss.gamma) * log_q

    return per_element(inputs, labels, term, loss.reduction)


@reference
def hill(loss: Any, inputs: Any, labels: Tensor) -> Tensor:
    def term(x: Tensor, y: bool) -> Tensor:
        p, p_m = torch.sigmoid(x), torch.sigmoid(x - loss.margin)
        return -((1 - p_m) ** loss.gamma) * log_sigmoid(x - loss.margin) if y else (loss.lamb - p) * p**2

    return per_element(inputs, labels, term, loss.reduction)


@reference
def asl(loss: Any, inputs: Any, labels: Tensor) -> Tensor:
    def term(x: Tensor, y: bool) -> Tensor:
        p = torch.sigmoid(x)
        q, gamma = (p, loss.gamma_pos) if y else ((1 - p + loss.clip).clamp(max=1), loss.gamma_neg)
        doubt = (1 - q).detach() if loss.detach_focal else 1 - q
        return -(q.clamp(min=loss.eps).log()) * doubt**gamma

    return per_element(inputs, labels, term, loss.reduction)


@reference
def zlpr(loss: Any, inputs: Any, labels: Tensor) -> Tensor:
    rows = []
    for x, y in zip(inputs["logits"], labels.bool(), strict=True):
        zero = torch.zeros((), dtype=x.dtype)
        rows.append(log_sum([zero, *(-x[y])]) + log_sum([zero, *x[~y]]))
    return mean(rows, len(rows), inputs["logits"])


@reference
def two_way(loss: Any, inputs: Any, labels: Tensor) -> Tensor:
    total = 0 * inputs["logits"].sum()
    for logits, present in ((inputs["logits"], labels.bool()), (inputs["logits"].T, labels.T.bool())):
        terms = []
        for x, y in zip(logits, present, strict=True):
            if y.any() and (~y).any():
                negative = loss.t_neg * log_sum([v / loss.t_neg for v in x[~y]])
                positive = loss.t_pos * log_sum([-v / loss.t_pos for v in x[y]])
                terms.append(-log_sigmoid(-(negative + positive)))
        total = total + mean(terms, int(present.any(1).sum()), logits)
    return total


@reference
def joint(loss: Any, inputs: Any, labels: Tensor, references: Any = None) -> Tensor:
    classification = bce(loss.losses["classification"], inputs, labels)
    contrastive = supcon_all(loss.losses["contrastive"], inputs, labels, references)
    return (1 - loss.weight) * classification + loss.weight * contrastive


@reference
def kmcl(loss: Any, inputs: Any, labels: Tensor) -> Tensor:
    """The isotropic case."""
    features, label_sets = inputs["features"], sets(labels)
    rows, dimensions = features.shape
    pi = features @ loss.pi.weight.T + loss.pi.bias
    mu = features @ loss.mu.weight.T + loss.mu.bias
    raw = features @ loss.var.weight.T + loss.var.bias
    var = 1e-7 + 2 + torch.where(raw > 0, raw, raw.exp() - 1)
    total = 0 * features.sum()
    for n in range(rows):
        kernels = []
        for k in range(labels.shape[1]):
            x, y = pi[n, k], bool(labels[n, k])
            p = torch.sigmoid(x)
            q, gamma = (p, loss.gamma_pos) if y else ((1 - p + loss.clip).clamp(max=1), loss.gamma_neg)
            total = total - q.clamp(min=1e-7).log() * (1 - q).detach() ** gamma
            distance = sum((features[n, d] - mu[n, k]) ** 2 for d in range(dimensions)) / var[n, k]
            kernels.append(p * torch.exp(-distance / 2))
        own = [g for k, g in enumerate(kernels) if k in label_sets[n]]
        ratio = torch.stack(own).sum() / torch.stack(kernels).sum() if own else torch.zeros_like(total)
        total = total - ratio.clamp(min=1e-7).log() / rows

    def affinity(i: int, j: int, k: int) -> Tensor:
        variance = var[i, k] + var[j, k]
        distance = dimensions / 2 * torch.log(variance / (2 * torch.sqrt(var[i, k] * var[j, k])))
        distance = distance + dimensions / 4 * (mu[i, k] - mu[j, k]) ** 2 / variance
        return torch.exp(torch.exp(-distance) / loss.temperature)

    for n in range(rows):
        neighbours = [m for m in range(rows) if m != n and label_sets[n] & label_sets[m]]
        for m in neighbours:
            index = len(label_sets[n] & label_sets[m]) / len(label_sets[n] | label_sets[m])
            for k in label_sets[n] & label_sets[m]:
                share = (
                    affinity(n, m, k) / torch.stack([affinity(n, j, k) for j in range(rows) if j != n]).sum()
                )
                total = total - torch.log(index * share + 1e-7) / len(neighbours) / rows
    return total
