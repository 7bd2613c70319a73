"""Focal loss: binary cross-entropy in which well-classified labels count less.

L = mean_{i, l} -(1 - q_il)^gamma log q_il,   q = p where y = 1, 1 - p where y = 0,   p = sigmoid(x)
"""

from torch import Tensor
from torch.nn.functional import logsigmoid

from mlcl.losses import ClassificationLoss

CITATION = "lin2017focal"


class Focal(ClassificationLoss):
    title = "Focal"
    paper = "Focal Loss for Dense Object Detection (arXiv:1708.02002)"
    equation = "-(1 - q)^gamma log q"
    inputs = "logits"
    elementwise = True
    allowed = ("gamma >= 0", "reduction in ('mean', 'sum')")
    gamma: float = 2.0
    reduction: str = "mean"

    def elements(self, logits: Tensor, labels: Tensor) -> Tensor:
        margin = logits * (2 * labels - 1)
        # (1 - q)^gamma through logarithms: its gradient stays finite where q reaches 1.
        return -(self.gamma * logsigmoid(-margin)).exp() * logsigmoid(margin)
