"""SupCon where sharing any label makes a positive (ANY).

    w_ik = 1 / |P_i|,   P_i = {k != i : y_i and y_k share a label},   L = 1/B sum_i sum_k -w_ik log p_ik

An anchor without positives contributes 0 and is counted.
"""

from torch import Tensor

from mlcl.losses import Pairs, PairWeighting

CITATION = "zhang2024multilabel"


class SupConAny(PairWeighting):
    title = "ANY"
    paper = "Multi-Label Supervised Contrastive Learning (AAAI 2024)"
    equation = "w_ik = 1[|y_i & y_k| > 0] / |P_i|"
    temperature: float = 0.1

    def weights(self, pairs: Pairs) -> Tensor:
        return (pairs.shared > 0).to(pairs.shared)
