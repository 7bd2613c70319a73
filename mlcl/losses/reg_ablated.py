"""REG without its gradient regulariser: items and prototypes alike are anchors and references.

    x_ik = |y_i & y_k| / |y_k|,   f(x) = x^alpha (alpha >= 0) or 1[x = 1] (alpha < 0)
    w_ik = 1/|y_i| sum_{l in y_i & y_k} f(x_ik) / sum_{m != i : l in y_m} f(x_im)
    L = 1/N+ sum_i sum_k -w_ik log p_ik

i, k, m run over the batch and the prototypes; prototype l carries label l alone. N+ counts the anchors that
have a positive: the prototype of a label absent from the batch has none.
"""

from torch import Tensor

from mlcl.losses import LabelWeighting, Pairs

CITATION = "audibert2024multilabel"


class RegAblated(LabelWeighting):
    title = "REG without regulariser"
    paper = "Multi-Label Contrastive Learning: A Comprehensive Study (arXiv:2412.00101)"
    equation = "w_ik = 1/|y_i| sum_{l in y_i & y_k} f(x_ik) / sum_m f(x_im), x_ik = |y_i & y_k| / |y_k|"
    anchors = ("batch", "prototypes")
    references = ("batch", "prototypes")
    reduction = "positive_anchors"
    epsilon = 1e-8
    temperature: float = 0.1
    alpha: float = 0.0

    def weights(self, pairs: Pairs) -> Tensor | float:
        if self.alpha == 0:
            return 1.0
        x = pairs.shared / pairs.reference_sizes.clamp_min(1)
        return x**self.alpha if self.alpha > 0 else (x >= 1 - 1e-8).to(x)
