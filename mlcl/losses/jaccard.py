"""Positives weighted by the Jaccard index of the label sets (L_Base of the comprehensive study).

    w_ik = J_ik / sum_k J_ik,   J_ik = |y_i & y_k| / |y_i or y_k|,   L = 1/N+ sum_i sum_k -w_ik log p_ik

N+ counts the anchors that have a positive.
"""

from torch import Tensor

from mlcl.losses import Pairs, PairWeighting

CITATION = "audibert2024multilabel"


class Jaccard(PairWeighting):
    title = "L_Base"
    paper = "Multi-Label Contrastive Learning: A Comprehensive Study (arXiv:2412.00101)"
    equation = "w_ik = J_ik / sum_k J_ik"
    reduction = "positive_anchors"
    epsilon = 1e-8
    temperature: float = 0.1

    def weights(self, pairs: Pairs) -> Tensor:
        return pairs.shared / (pairs.union + self.epsilon)
