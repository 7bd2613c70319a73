"""Positives weighted by the number of shared labels (the contrastive term of a kNN-enhanced text classifier).

    w_ik = |y_i & y_k| / sum_m |y_i & y_m|,   L = 1/B sum_i sum_k -w_ik log p_ik

The paper takes the negative Euclidean distance as similarity and sums over anchors; here it is the cosine and
the mean, as the other losses. An anchor without positives contributes 0 and is counted.
"""

from torch import Tensor

from mlcl.losses import Pairs, PairWeighting

CITATION = "su2022contrastive"


class Overlap(PairWeighting):
    title = "Label overlap"
    paper = "Contrastive Learning-Enhanced Nearest Neighbor Mechanism for Multi-Label Text Classification (ACL 2022)"
    equation = "w_ik = |y_i & y_k| / sum_m |y_i & y_m|"
    temperature: float = 0.1

    def weights(self, pairs: Pairs) -> Tensor:
        return pairs.shared
