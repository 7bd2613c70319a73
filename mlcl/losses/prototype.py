"""Each item is drawn to the prototypes of its labels, away from the others.

    L = 1/B sum_i 1/|y_i| sum_{l in y_i} -log( exp(z_i . c_l / t) / sum_m exp(z_i . c_m / t) )

An item without labels contributes 0 and is counted.
"""

from torch import Tensor

from mlcl.losses import Pairs, PairWeighting

CITATION = "audibert2024multilabel"


class Prototype(PairWeighting):
    title = "Prototypes only"
    paper = "Multi-Label Contrastive Learning: A Comprehensive Study (arXiv:2412.00101)"
    equation = "w_il = 1[l in y_i] / |y_i|"
    references = ("prototypes",)
    temperature: float = 0.1

    def weights(self, pairs: Pairs) -> Tensor:
        return pairs.shared
