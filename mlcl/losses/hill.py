"""Hill loss: negatives that look positive are taken for missing labels and pushed down less.

    L = mean_{i, l} [ -y (1 - p_m)^gamma log p_m + (1 - y) (lambda - p) p^2 ]
    p = sigmoid(x),   p_m = sigmoid(x - margin)

lambda is `lamb`. The released code takes the sum; here the mean is the default.
"""

from torch import Tensor
from torch.nn.functional import logsigmoid

from mlcl.losses import ClassificationLoss

CITATION = "zhang2021simple"


class Hill(ClassificationLoss):
    title = "Hill"
    paper = "Simple and Robust Loss Design for Multi-Label Learning with Missing Labels (arXiv:2112.07368)"
    equation = "-y (1 - p_m)^g log p_m + (1 - y) (lambda - p) p^2"
    inputs = "logits"
    elementwise = True
    allowed = ("lamb >= 1", "margin >= 0", "gamma >= 0", "reduction in ('mean', 'sum')")
    lamb: float = 1.5
    margin: float = 1.0
    gamma: float = 2.0
    reduction: str = "mean"

    def elements(self, logits: Tensor, labels: Tensor) -> Tensor:
        p = logits.sigmoid()
        shifted = logits - self.margin
        positive = -(self.gamma * logsigmoid(-shifted)).exp() * logsigmoid(shifted)
        return labels * positive + (1 - labels) * (self.lamb - p) * p**2
