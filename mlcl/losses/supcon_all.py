"""SupCon where only equal label sets make a positive (ALL; SCL in CL-MTC).

    w_ik = 1 / |P_i|,   P_i = {k != i : y_k = y_i},   L = 1/B sum_i sum_k -w_ik log p_ik

Two empty label sets are equal, as in the released code. An anchor without positives contributes 0 and is
counted.
"""

from torch import Tensor

from mlcl.losses import Pairs, PairWeighting

CITATION = "zhang2024multilabel"


class SupConAll(PairWeighting):
    title = "ALL"
    paper = "Multi-Label Supervised Contrastive Learning (AAAI 2024)"
    equation = "w_ik = 1[y_i = y_k] / |P_i|"
    temperature: float = 0.1

    def weights(self, pairs: Pairs) -> Tensor:
        equal = (pairs.shared == pairs.anchor_sizes) & (pairs.shared == pairs.reference_sizes)
        return equal.to(pairs.shared)
