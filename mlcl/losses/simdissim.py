"""Positives weighted by similarity times dissimilarity, which tell the five relations of label sets apart.

    w_ik = K^s_ik K^d_ik / |P_i|,   K^s = |y_i & y_k| / |y_i|,   K^d = 1 / (1 + |y_k minus y_i|)
    P_i = {k != i : y_i and y_k share a label},   L = 1/B sum_i sum_k -w_ik log p_ik

`kind` leaves one of the two factors out: `similarity` keeps K^s, `dissimilarity` K^d, for the same positives P_i. It is
the ablation that reviewers of the paper asked for.

A reconstruction: the form of K^d, the asymmetry and the anchor's part are known from reviews of the paper;
that the weight stands outside the logarithm is inferred (inside, it would be a constant without gradient).
An anchor without positives contributes 0 and is counted.
"""

from torch import Tensor

from mlcl.losses import Pairs, PairWeighting

CITATION = "huang2024similaritydissimilarity"


class SimDissim(PairWeighting):
    title = "Similarity-Dissimilarity"
    paper = "Similarity-Dissimilarity Loss for Multi-label Supervised Contrastive Learning (arXiv:2410.13439)"
    equation = "w_ik = |y_i & y_k| / |y_i| / (1 + |y_k - y_i|) / |P_i|"
    normaliser = "positives"
    allowed = ("kind in ('both', 'similarity', 'dissimilarity')",)
    temperature: float = 0.07
    kind: str = "both"

    def weights(self, pairs: Pairs) -> Tensor:
        if self.kind == "dissimilarity":
            return (pairs.shared > 0).to(pairs.shared) / (1 + pairs.reference_sizes - pairs.shared)
        similarity = pairs.shared / pairs.anchor_sizes.clamp_min(1)
        if self.kind == "similarity":
            return similarity
        return similarity / (1 + pairs.reference_sizes - pairs.shared)
