"""KMCL: labels as Gaussian kernels around the features; classification, reconstruction and contrast of kernels.

    L = ASL + reconstruction + contrastive

    ASL             on the logits pi, summed over rows and labels
    reconstruction  -1/B sum_n log max( sum_k y_nk p_nk G_nk / sum_k p_nk G_nk, 1e-7 ),   p = sigmoid(pi)
                    G_nk = exp( -1/2 |f_n - mu_nk|^2 / v_nk )
    contrastive     -1/B sum_{n : A(n) not empty} 1/|A(n)| sum_{m in A(n)} sum_{k in y_n & y_m}
                    log( J_nm S_nm,k / sum_{j != n} S_nj,k + 1e-7 ),   A(n) = {m != n : y_n and y_m share a label}
                    S_ij,k = exp( exp(-BD_ij,k) / temperature ),   J the Jaccard index
                    BD_ij,k = M/2 ln( (v_ik + v_jk) / (2 sd_ik sd_jk) ) + M/4 (mu_ik - mu_jk)^2 / (v_ik + v_jk)

The isotropic case has one mean and one variance for each label; the anisotropic one has them for each of
`reduced_dim` dimensions of linearly reduced features, and BD is summed over these. There the released code
multiplies by the number of dimensions once more (`official=True`), which leaves no gradient at 128 dimensions.
The reconstruction's ratio is taken in logarithms, so that it does not underflow with many dimensions.

The contrast needs one row of B similarities for each pair of an anchor and a label it has, sum_n |y_n| rows in all.
They are computed in tiles of anchors. As in `_kernel`, a tile's gradient is computed with its value and kept for the
backward pass, so that memory is that of the inputs and one tile.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import elu, linear, logsigmoid

from mlcl.losses._base import Loss, check_labels, check_matrix, full_precision
from mlcl.losses._distributed import Ranks
from mlcl.losses._errors import LossInputError
from mlcl.losses.asl import ASL

CITATION = "sajedi2023endtoend"

_TILE_ELEMENTS = 2**20
_FLOOR = 1e-7
_LARGEST = 1e15
"""Features and means are clamped to this range: the squares of larger ones overflow in float32, and their kernels are
0 in any case."""


class KMCL(Loss):
    """A loss with heads of its own: `logits` gives its predictions from the features."""

    title = "KMCL"
    paper = "End-to-End Supervised Multilabel Contrastive Learning (arXiv:2307.03967)"
    equation = "ASL + kernel reconstruction + contrast of Bhattacharyya similarities"
    inputs = "features"
    allowed = (
        "case in ('isotropic', 'anisotropic')",
        "reduced_dim >= 1",
        "gamma_neg >= 0",
        "gamma_pos >= 0",
        "0 <= clip < 1",
    )
    case: str = "isotropic"
    official: bool = False
    temperature: float = 0.17
    reduced_dim: int = 128
    gamma_neg: float = 4.0
    gamma_pos: float = 0.0
    clip: float = 0.05
    detach_focal: bool = True

    def __init__(
        self,
        num_labels: int,
        embedding_dim: int,
        generator: torch.Generator | None = None,
        **hyperparameters: object,
    ) -> None:
        super().__init__(num_labels, embedding_dim, generator, **hyperparameters)
        isotropic = self.case == "isotropic"
        width = embedding_dim if isotropic else self.reduced_dim
        kernels = num_labels if isotropic else num_labels * self.reduced_dim
        self.reduce = nn.Identity() if isotropic else nn.Linear(embedding_dim, self.reduced_dim)
        self.pi = nn.Linear(embedding_dim, num_labels)
        self.mu = nn.Linear(width, kernels)
        self.var = nn.Linear(width, kernels)
        for layer in (self.reduce, self.pi):
            if isinstance(layer, nn.Linear):
                bound = 1 / math.sqrt(layer.in_features)
                nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
                nn.init.zeros_(layer.bias)
        nn.init.uniform_(self.mu.weight, 0, 0.1, generator=generator)
        nn.init.ones_(self.var.weight)
        nn.init.zeros_(self.mu.bias)
        nn.init.zeros_(self.var.bias)

    def logits(self, features: Tensor) -> Tensor:
        """Predictions (B, L) from the encoder's features (B, M)."""
        return _apply(self.pi, features)

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Scalar loss of features (B, M) and labels (B, L) in {0, 1}; 0 for an empty batch."""
        return torch.stack(list(self.terms(features, labels).values())).sum()

    def terms(self, features: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The three terms of the loss."""
        check_matrix("features", features, self.embedding_dim)
        with torch.autocast(features.device.type, enabled=False):
            ranks = Ranks(self.process_group, features)
            labels = check_labels("labels", labels, len(features), self.num_labels, features)
            labels = ranks.gather(labels).bool()  # checked: nobody has to look at their values again
            features = ranks.gather_with_gradient(full_precision(features))
            reduced = _apply(self.reduce, features)
            return kmcl_terms(
                reduced,
                _apply(self.pi, features),
                _apply(self.mu, reduced),
                _FLOOR + 2 + elu(_apply(self.var, reduced)),
                labels,
                case=self.case,
                official=self.official,
                temperature=self.temperature,
                gamma_neg=self.gamma_neg,
                gamma_pos=self.gamma_pos,
                clip=self.clip,
                detach_focal=self.detach_focal,
            )


def _apply(layer: nn.Module, features: Tensor) -> Tensor:
    """The layer in the features' type, as the prototypes of other losses: float64 stays float64."""
    if not isinstance(layer, nn.Linear):
        return features
    return linear(features, layer.weight.to(features.dtype), layer.bias.to(features.dtype))


def kmcl_terms(
    features: Tensor,
    pi: Tensor,
    mu: Tensor,
    var: Tensor,
    labels: Tensor,
    *,
    case: str = "isotropic",
    official: bool = False,
    temperature: float = 0.17,
    gamma_neg: float = 4.0,
    gamma_pos: float = 0.0,
    clip: float = 0.05,
    detach_focal: bool = True,
    tile_elements: int = _TILE_ELEMENTS,
) -> dict[str, Tensor]:
    """The terms "asl", "reconstruction" and "contrastive" of KMCL.

    features (B, M); logits pi (B, L); mu and var (B, L), or (B, M L) in the anisotropic case, var > 0;
    labels (B, L) in {0, 1}. Raises LossInputError for wrong shapes or values.
    """
    check_matrix("features", features, None)
    check_matrix("pi", pi, None)
    rows, num_labels = pi.shape
    labels = check_labels("labels", labels, len(features), num_labels, features)
    if case not in ("isotropic", "anisotropic"):
        raise LossInputError(f"case must be 'isotropic' or 'anisotropic', got {case!r}")
    dimensions = 1 if case == "isotropic" else features.shape[1]
    for name, values in (("mu", mu), ("var", var)):
        check_matrix(name, values, dimensions * num_labels)
        if len(values) != rows:
            raise LossInputError(f"{name} must have {rows} rows, as pi, got {len(values)}")
    features, pi, mu, var = map(full_precision, (features, pi, mu, var))
    features, mu = features.clamp(-_LARGEST, _LARGEST), mu.clamp(-_LARGEST, _LARGEST)
    mu, var = (values.view(rows, dimensions, num_labels) for values in (mu, var))
    asl = ASL(
        num_labels,
        gamma_neg=gamma_neg,
        gamma_pos=gamma_pos,
        clip=clip,
        eps=_FLOOR,
        reduction="sum",
        detach_focal=detach_focal,
    )
    # Per dimension, BD counts once; the isotropic kernel stands for M equal dimensions.
    multiplicity = features.shape[1] if case == "isotropic" or official else 1
    return {
        "asl": asl(pi, labels.bool()),
        "reconstruction": _reconstruction(features, pi, mu, var, labels),
        "contrastive": _contrastive(mu, var, labels, multiplicity, temperature, tile_elements),
    }


def _reconstruction(features: Tensor, pi: Tensor, mu: Tensor, var: Tensor, labels: Tensor) -> Tensor:
    dimensions = features.shape[1]
    if mu.shape[1] == 1:  # sum_d (f_d - mu)^2 = sum_d (f_d - mean f)^2 + M (mean f - mu)^2
        mean = features.mean(1, keepdim=True)
        spread = (features - mean).square().sum(1, keepdim=True)
        distance = (spread + dimensions * (mean - mu[:, 0]).square()) / var[:, 0]
    else:
        distance = ((features[:, :, None] - mu).square() / var).sum(1)
    log_joint = logsigmoid(pi) - distance / 2
    present = log_joint.masked_fill(labels == 0, torch.finfo(log_joint.dtype).min)
    log_ratio = present.logsumexp(1) - log_joint.logsumexp(1)
    return -log_ratio.clamp_min(math.log(_FLOOR)).sum() / max(len(features), 1)


def _contrastive(
    mu: Tensor, var: Tensor, labels: Tensor, multiplicity: int, temperature: float, tile_elements: int
) -> Tensor:
    """`mu` and `var` (B, dimensions, L), `labels` (B, L)."""
    by_label = (values.permute(2, 0, 1) for values in (mu, var))
    value: Tensor = _Contrast.apply(*by_label, labels, multiplicity, temperature, tile_elements)
    return value


class _Contrast(torch.autograd.Function):
    """(mu (L, B, dimensions), var (L, B, dimensions), labels (B, L), ...) -> the contrastive term."""

    @staticmethod
    def forward(
        ctx: Any,
        mu: Tensor,
        var: Tensor,
        labels: Tensor,
        multiplicity: int,
        temperature: float,
        tile_elements: int,
    ) -> Tensor:
        mu, var = mu.contiguous(), var.contiguous()
        rows, needs_gradient = len(labels), ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        gradients = [torch.zeros_like(values) for values in (mu, var)] if needs_gradient else []
        total = mu.new_zeros((), dtype=torch.float64)
        sizes = labels.sum(1)
        for start, stop in _anchor_tiles(sizes, mu[0].numel(), tile_elements):
            anchors, kernels = labels[start:stop].nonzero(as_tuple=True)
            rows_of = kernels, anchors + start
            weights, jaccard = _positives(labels, sizes, start, stop)
            weights = weights[anchors] * labels.T[kernels]
            with torch.set_grad_enabled(needs_gradient):
                leaves = [mu[rows_of], var[rows_of], mu[kernels], var[kernels]]
                for leaf in leaves:
                    leaf.requires_grad_(needs_gradient)
                affinity = _similarity(leaves, multiplicity) / temperature
                affinity = affinity.scatter(1, rows_of[1][:, None], torch.finfo(mu.dtype).min)
                share = affinity.softmax(1)
                value = -(weights * (jaccard[anchors] * share + _FLOOR).log()).sum()
            total += value.detach()
            if needs_gradient:
                of_tile = torch.autograd.grad(value, leaves)
                for gradient, of_anchors, of_references in zip(
                    gradients, of_tile[:2], of_tile[2:], strict=True
                ):
                    gradient.index_put_(rows_of, of_anchors, accumulate=True)
                    gradient.index_add_(0, kernels, of_references)
        ctx.rows = max(rows, 1)
        ctx.save_for_backward(*gradients)
        return (total / ctx.rows).to(mu.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        of_mu, of_var = (gradient * (grad_output / ctx.rows) for gradient in ctx.saved_tensors)
        return of_mu, of_var, None, None, None, None


def _anchor_tiles(sizes: Tensor, width: int, tile_elements: int) -> Iterator[tuple[int, int]]:
    """Ranges of anchors with about `tile_elements` / `width` labels together, at least one anchor each."""
    limit, start, labels = tile_elements // max(width, 1), 0, 0
    counts = [int(size) for size in sizes.tolist()]
    for stop, size in enumerate(counts):
        if stop > start and labels + size > limit:
            yield start, stop
            start, labels = stop, 0
        labels += size
    if labels:
        yield start, len(counts)


def _positives(labels: Tensor, sizes: Tensor, start: int, stop: int) -> tuple[Tensor, Tensor]:
    """Of anchors start..stop with all rows, (t, B) each: 1 / |A(n)| for the rows in A(n) and 0 for others; Jaccard."""
    shared = labels[start:stop] @ labels.T
    jaccard = shared / (sizes[start:stop, None] + sizes - shared).clamp_min(1)
    positives = (shared > 0).to(shared)
    positives.diagonal(start).zero_()
    return positives / positives.sum(1, keepdim=True).clamp_min(1), jaccard


def _similarity(kernels: list[Tensor], multiplicity: int) -> Tensor:
    """exp(-BD) (t, B): mu and var of one kernel a row (t, dimensions), and of those it is compared with (t, B, ...)."""
    anchor_mu, anchor_var, mu, var = kernels[0][:, None], kernels[1][:, None], kernels[2], kernels[3]
    sums = anchor_var + var
    ratio = sums.log() - math.log(2) - 0.5 * (anchor_var.log() + var.log())
    distance = 0.5 * ratio + 0.25 * (anchor_mu - mu).square() / sums
    return (-multiplicity * distance.sum(2)).exp()
