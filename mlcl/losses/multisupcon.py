"""MultiSupCon: label sets that overlap enough make a positive, weighted by the Jaccard index.

    w_ik = J_ik / |P_i|,   J_ik = |y_i & y_k| / |y_i or y_k|,   P_i = {k != i : J_ik >= threshold}
    L = 1/B sum_i sum_k -w_ik log p_ik

The paper sums over anchors; here it is the mean, as the other losses. Two empty label sets are equal, so their
index is 1. An anchor without positives contributes 0 and is counted.
"""

from torch import Tensor

from mlcl.losses import Pairs, PairWeighting


class MultiSupCon(PairWeighting):
    title = "MultiSupCon"
    paper = "Contrastive Learning for Multi-Label Classification (MultiSupCon)"
    equation = "w_ik = J_ik / |P_i|, J_ik >= threshold"
    allowed = ("0 < threshold <= 1",)
    normaliser = "positives"
    temperature: float = 0.1
    threshold: float = 0.5

    def weights(self, pairs: Pairs) -> Tensor:
        both_empty = (pairs.anchor_sizes + pairs.reference_sizes == 0).to(pairs.shared)
        jaccard = (pairs.shared + both_empty) / pairs.union.clamp_min(1)
        return jaccard * (jaccard >= self.threshold).to(pairs.shared)
