"""Asymmetric loss: negatives are focused harder than positives, and easy ones dropped.

    L = -mean_{i, l} [ y log p (1 - p)^gamma_pos + (1 - y) log q (1 - q)^gamma_neg ]
    p = sigmoid(x),   q = min(1 - p + clip, 1)

Logarithms are taken of probabilities of at least `eps`; `detach_focal` keeps the powers out of the gradient.
The paper uses gamma_neg = 4, clip = 0.05 and the sum; the comprehensive study gamma_neg = 1, clip = 0 and the
mean.
"""

from torch import Tensor

from mlcl.losses import ClassificationLoss

CITATION = "benbaruch2020asymmetric"


class ASL(ClassificationLoss):
    title = "ASL"
    paper = "Asymmetric Loss For Multi-Label Classification (arXiv:2009.14119)"
    equation = "-[y log p (1 - p)^g+ + (1 - y) log q (1 - q)^g-]"
    inputs = "logits"
    elementwise = True
    allowed = (
        "gamma_neg >= 0",
        "gamma_pos >= 0",
        "0 <= clip < 1",
        "0 < eps < 1",
        "reduction in ('mean', 'sum')",
    )
    gamma_neg: float = 4.0
    gamma_pos: float = 0.0
    clip: float = 0.05
    eps: float = 1e-5
    detach_focal: bool = False
    reduction: str = "mean"

    def elements(self, logits: Tensor, labels: Tensor) -> Tensor:
        p = logits.sigmoid()
        q = (1 - p + self.clip).clamp(max=1)
        positive = labels * p.clamp_min(self.eps).log() * self._focus(1 - p, self.gamma_pos)
        negative = (1 - labels) * q.clamp_min(self.eps).log() * self._focus(1 - q, self.gamma_neg)
        return -(positive + negative)

    def _focus(self, doubt: Tensor, gamma: float) -> Tensor:
        doubt = doubt.detach() if self.detach_focal else doubt
        # Powers below 1 have an infinite gradient at 0.
        return doubt**gamma if gamma == 0 or gamma >= 1 else doubt.clamp_min(self.eps) ** gamma
