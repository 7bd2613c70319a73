"""Stepwise label loss (SLCL): one SupCon for every label, whose two classes are "has it" and "has it not".

    P_il = {k != i : y_kl = y_il},   L = 1/B sum_i 1/L sum_l 1/|P_il| sum_{k in P_il} -log p_ik

This is MulSupCon on label sets that hold each label or its absence. The released code scales the loss by
temperature / 0.07 and by a further 1/B; here it is the mean, as the other losses.
"""

import torch
from torch import Tensor

from mlcl.losses import LabelWeighting, Pairs

CITATION = "lin2023effective"


class Stepwise(LabelWeighting):
    title = "SLCL"
    paper = "An Effective Deployment of Contrastive Learning in Multi-label Text Classification (arXiv:2212.00552)"
    equation = "w_ik = 1/L sum_{l : y_il = y_kl} 1 / |P_il|"
    temperature: float = 0.1

    def label_sets(self, labels: Tensor) -> Tensor:
        return torch.cat([labels, 1 - labels], 1)

    def weights(self, pairs: Pairs) -> float:
        return 1.0
