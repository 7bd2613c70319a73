"""ABALONE (L_MSC): MulSupCon that prefers similar label sets, with prototypes and softer negatives.

    u_ik = alpha / |y_i or y_k|,   N_il = 1 + sum_{k != i : l in y_k} u_ik
    D_i  = beta sum_{k != i} exp s_ik + sum_m exp s_im              (k in the batch, m over prototypes)
    L    = 1/B sum_i 1/|y_i| sum_{l in y_i} 1/N_il ( - (s_il - log D_i)
                                                     + sum_{k != i : l in y_k} - u_ik (s_ik - log D_i) )

The paper also speaks of a memory queue, which the released code does not have; give it as `references`.
An anchor without labels contributes 0 and is counted.
"""

from torch import Tensor

from mlcl.losses import LabelWeighting, Pairs

CITATION = "audibert2024exploring"


class Abalone(LabelWeighting):
    title = "L_MSC / ABALONE"
    paper = (
        "Exploring Contrastive Learning for Long-Tailed Multi-Label Text Classification (arXiv:2404.08720)"
    )
    equation = "w_ik = 1/|y_i| sum_{l in y_i & y_k} u_ik / N_il, u_ik = alpha / |y_i or y_k|; prototypes 1"
    references = ("batch", "prototypes")
    epsilon = 1e-8
    allowed = ("alpha >= 0", "beta > 0")
    temperature: float = 0.1
    alpha: float = 1.0
    beta: float = 0.1

    def weights(self, pairs: Pairs) -> Tensor:
        return self.alpha / pairs.union.clamp_min_(1)

    def prototype_weights(self, pairs: Pairs) -> float:
        return 1.0

    def denominator_weight(self) -> float:
        return self.beta
