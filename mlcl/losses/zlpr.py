"""ZLPR: the lowest logit of a present label is to exceed 0, and 0 the highest of an absent one.

    L = mean_i [ log(1 + sum_{l in y_i} exp(-x_il)) + log(1 + sum_{l not in y_i} exp(x_il)) ]

A row without labels, or with all of them, takes the limit: the other term is log 1 = 0. The released code of
the comprehensive study drops the maxima it subtracts from its value; the gradient is this one.
"""

import torch
from torch import Tensor

from mlcl.losses import ClassificationLoss

CITATION = "su2022zlpr"


class ZLPR(ClassificationLoss):
    title = "ZLPR"
    paper = "ZLPR: A Novel Loss for Multi-label Classification (arXiv:2208.02955)"
    equation = "log(1 + sum_pos exp(-x)) + log(1 + sum_neg exp(x))"
    inputs = "logits"

    def elements(self, logits: Tensor, labels: Tensor) -> Tensor:
        lowest = torch.finfo(logits.dtype).min
        zero = logits.new_zeros(len(logits), 1)
        present = (-logits).masked_fill(labels == 0, lowest)
        absent = logits.masked_fill(labels == 1, lowest)
        return torch.cat([zero, present], 1).logsumexp(1) + torch.cat([zero, absent], 1).logsumexp(1)
