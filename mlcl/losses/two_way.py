"""Two-way loss: present labels rank above absent ones in each row, present rows above absent ones in each label.

    l(x, y) = softplus( t_neg log sum_{y = 0} exp(x / t_neg) + t_pos log sum_{y = 1} exp(-x / t_pos) )
    L = mean over rows of l(x_i, y_i) + mean over labels of l(x_l, y_l)

Rows and labels without a positive are left out of their mean, as in the released code; those without a
negative take the limit 0.
"""

import torch
from torch import Tensor
from torch.nn.functional import softplus

from mlcl.losses import ClassificationLoss

CITATION = "kobayashi2023twoway"


class TwoWay(ClassificationLoss):
    title = "Two-way"
    paper = "Two-Way Multi-Label Loss (CVPR 2023)"
    equation = "softplus(t_neg lse_neg(x / t_neg) + t_pos lse_pos(-x / t_pos)), over rows and over labels"
    inputs = "logits"
    allowed = ("t_pos > 0", "t_neg > 0")
    t_pos: float = 4.0
    t_neg: float = 1.0

    def elements(self, logits: Tensor, labels: Tensor) -> Tensor:
        return self._one_way(logits, labels) + self._one_way(logits.T, labels.T)

    def _one_way(self, logits: Tensor, labels: Tensor) -> Tensor:
        lowest = torch.finfo(logits.dtype).min
        hardest_negative = (logits / self.t_neg).masked_fill(labels == 1, lowest).logsumexp(1) * self.t_neg
        hardest_positive = (-logits / self.t_pos).masked_fill(labels == 0, lowest).logsumexp(1) * self.t_pos
        both = (labels == 1).any(1) & (labels == 0).any(1)
        terms = softplus(torch.where(both, hardest_negative + hardest_positive, lowest))
        return terms.sum() / (labels == 1).any(1).sum().clamp_min(1)
