"""Binary cross-entropy: every label on its own.

L = mean_{i, l} -[ y_il log p_il + (1 - y_il) log(1 - p_il) ],   p = sigmoid(x)
"""

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from mlcl.losses import ClassificationLoss


class BCE(ClassificationLoss):
    title = "BCE"
    paper = "the standard baseline"
    equation = "-[y log p + (1 - y) log(1 - p)]"
    inputs = "logits"
    elementwise = True

    def elements(self, logits: Tensor, labels: Tensor) -> Tensor:
        return binary_cross_entropy_with_logits(logits, labels, reduction="none")
