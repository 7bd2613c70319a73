"""GMA-SCL's soft targets: how alike two label sets are decides how close their items shall be.

    P_ik = sum_{l in y_i} idf_l max_{l' in y_k} M_ll' / sum_{l in y_i} idf_l
    G_ik = 2 P_ik P_ki / (P_ik + P_ki),   W_ik = exp(G_ik / t') / sum_{m != i} exp(G_im / t')
    L = 1/B sum_i sum_{k != i} - W_ik log p_ik

M and idf come from the labels of the training rows (`learn_from_training`); until they are given, a label is like
itself alone and all count the same. With V_kl = max_{l' in y_k} M_ll' it is P = (Y idf) V^T / (Y idf 1): no (B, B, L)
tensor. The paper may also take M from names of labels; here it is their co-occurrence. That M is cut off at 0 and how
idf is smoothed are choices of ours. An anchor without labels contributes 0 and is counted; as a reference it is like
nothing.
"""

from torch import Tensor

from mlcl.losses import Pairs, PairWeighting


class GmaScl(PairWeighting):
    title = "GMA-SCL"
    paper = "GMA-SCL (2026): its soft-target loss, from a description; there is no released code"
    equation = "w_ik = softmax_k(G_ik / t'), G_ik the harmonic mean of P_ik and P_ki (label similarity)"
    allowed = ("target_temperature > 0",)
    compares_labels = True
    temperature: float = 0.1
    target_temperature: float = 0.1

    def weights(self, pairs: Pairs) -> Tensor:
        forth, back = pairs.matched, pairs.matched_by_references
        harmonic = 2 * forth * back / (forth + back).clamp_min(1e-12)
        return (harmonic / self.target_temperature).exp() * (pairs.anchor_sizes > 0).to(harmonic)
