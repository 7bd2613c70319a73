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
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import elu, logsigmoid
from torch.utils.checkpoint import checkpoint

from mlcl.losses._base import Loss, check_labels, check_matrix, full_precision
from mlcl.losses._distributed import Ranks
from mlcl.losses._errors import LossInputError
from mlcl.losses._kernel import tiles
from mlcl.losses.asl import ASL

_TILE_ELEMENTS = 2**22
_FLOOR = 1e-7


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
        logits: Tensor = self.pi(features)
        return logits

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
            reduced = self.reduce(features)
            return kmcl_terms(
                reduced,
                self.pi(features),
                self.mu(reduced),
                _FLOOR + 2 + elu(self.var(reduced)),
                labels,
                case=self.case,
                official=self.official,
                temperature=self.temperature,
                gamma_neg=self.gamma_neg,
                gamma_pos=self.gamma_pos,
                clip=self.clip,
                detach_focal=self.detach_focal,
            )


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
    features, pi = full_precision(features), full_precision(pi)
    mu, var = (full_precision(values).view(rows, dimensions, num_labels) for values in (mu, var))
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
    """Row tile by row tile; with more than one, each is recomputed in the backward pass instead of kept."""

    def tile(mu: Tensor, var: Tensor, start: int, stop: int) -> Tensor:
        return _contrastive_rows(mu, var, labels, start, stop, multiplicity, temperature)

    rows = len(mu)
    ranges = list(tiles(0, rows, rows * mu.shape[1] * mu.shape[2], tile_elements))
    total = mu.sum() * 0
    for start, stop in ranges:
        if len(ranges) == 1:
            total = total + tile(mu, var, start, stop)
        else:
            total = total + checkpoint(tile, mu, var, start, stop, use_reentrant=False)
    return total / max(rows, 1)


def _contrastive_rows(
    mu: Tensor, var: Tensor, labels: Tensor, start: int, stop: int, multiplicity: int, temperature: float
) -> Tensor:
    """B times the contrastive loss of anchors start..stop; mu and var are (B, dimensions, L)."""
    own, own_var, own_labels = mu[start:stop, None], var[start:stop, None], labels[start:stop]
    sums = own_var + var
    distance = 0.5 * (sums.log() - 0.5 * (4 * own_var * var).log()) + 0.25 * (own - mu).square() / sums
    affinity = (-multiplicity * distance.sum(2)).exp() / temperature  # log S, (t, B, L)
    itself = torch.zeros(len(own_labels), len(labels), dtype=torch.bool, device=mu.device)
    itself.diagonal(start).fill_(True)
    share = affinity.masked_fill(itself[:, :, None], torch.finfo(mu.dtype).min).softmax(1)
    shared = own_labels @ labels.T
    union = own_labels.sum(1, keepdim=True) + labels.sum(1) - shared
    jaccard = shared / union.clamp_min(1)
    log_ratio = (jaccard[:, :, None] * share + _FLOOR).log()
    positives = (shared > 0) & ~itself
    per_pair = (log_ratio * own_labels[:, None] * labels).sum(2) * positives
    return -(per_pair.sum(1) / positives.sum(1).clamp_min(1)).sum()
