# Made by `python docs/make_loss_stubs.py`; do not edit.
from torch import Generator

from mlcl.losses._base import ClassificationLoss as ClassificationLoss
from mlcl.losses._base import Loss as _Loss
from mlcl.losses._base import across_processes as across_processes
from mlcl.losses._base import learn_from_training as learn_from_training
from mlcl.losses._citations import citation as citation
from mlcl.losses._declarations import LossInfo as LossInfo
from mlcl.losses._errors import LossError as LossError
from mlcl.losses._errors import LossInputError as LossInputError
from mlcl.losses._pairs import Pairs as Pairs
from mlcl.losses._registry import create as create
from mlcl.losses._registry import describe as describe
from mlcl.losses._registry import names as names
from mlcl.losses._registry import validate as validate
from mlcl.losses._weighting import LabelWeighting as LabelWeighting
from mlcl.losses._weighting import PairWeighting as PairWeighting
from mlcl.losses.kmcl import kmcl_terms as kmcl_terms

class Joint(_Loss):
    """A classification loss and a contrastive loss, trained together.

    (1 - weight) classification + weight contrastive

    An Effective Deployment of Contrastive Learning in Multi-label Text Classification (arXiv:2212.00552)
    """

    classification: str
    contrastive: str
    weight: float
    def __init__(
        self,
        num_labels: int,
        embedding_dim: int | None = None,
        *,
        classification: str = "bce",
        contrastive: str = "supcon_all",
        weight: float = 0.5,
        generator: Generator | None = None,
    ) -> None: ...

class KMCL(_Loss):
    """KMCL: labels as Gaussian kernels around the features; classification, reconstruction and contrast of kernels.

    ASL + kernel reconstruction + contrast of Bhattacharyya similarities

    End-to-End Supervised Multilabel Contrastive Learning (arXiv:2307.03967)
    """

    case: str
    official: bool
    temperature: float
    reduced_dim: int
    gamma_neg: float
    gamma_pos: float
    clip: float
    detach_focal: bool
    def __init__(
        self,
        num_labels: int,
        embedding_dim: int,
        *,
        case: str = "isotropic",
        official: bool = False,
        temperature: float = 0.17,
        reduced_dim: int = 128,
        gamma_neg: float = 4.0,
        gamma_pos: float = 0.0,
        clip: float = 0.05,
        detach_focal: bool = True,
        generator: Generator | None = None,
    ) -> None: ...

class ASL(ClassificationLoss):
    """Asymmetric loss: negatives are focused harder than positives, and easy ones dropped.

    -[y log p (1 - p)^g+ + (1 - y) log q (1 - q)^g-]

    Asymmetric Loss For Multi-Label Classification (arXiv:2009.14119)
    """

    gamma_neg: float
    gamma_pos: float
    clip: float
    eps: float
    detach_focal: bool
    reduction: str
    def __init__(
        self,
        num_labels: int,
        embedding_dim: int | None = None,
        *,
        gamma_neg: float = 4.0,
        gamma_pos: float = 0.0,
        clip: float = 0.05,
        eps: float = 1e-05,
        detach_focal: bool = False,
        reduction: str = "mean",
        generator: Generator | None = None,
    ) -> None: ...

class BCE(ClassificationLoss):
    """Binary cross-entropy: every label on its own.

    -[y log p + (1 - y) log(1 - p)]

    the standard baseline
    """

    def __init__(
        self,
        num_labels: int,
        embedding_dim: int | None = None,
        *,
        generator: Generator | None = None,
    ) -> None: ...

class Focal(ClassificationLoss):
    """Focal loss: binary cross-entropy in which well-classified labels count less.

    -(1 - q)^gamma log q

    Focal Loss for Dense Object Detection (arXiv:1708.02002)
    """

    gamma: float
    reduction: str
    def __init__(
        self,
        num_labels: int,
        embedding_dim: int | None = None,
        *,
        gamma: float = 2.0,
        reduction: str = "mean",
        generator: Generator | None = None,
    ) -> None: ...

class Hill(ClassificationLoss):
    """Hill loss: negatives that look positive are taken for missing labels and pushed down less.

    -y (1 - p_m)^g log p_m + (1 - y) (lambda - p) p^2

    Simple and Robust Loss Design for Multi-Label Learning with Missing Labels (arXiv:2112.07368)
    """

    lamb: float
    margin: float
    gamma: float
    reduction: str
    def __init__(
        self,
        num_labels: int,
        embedding_dim: int | None = None,
        *,
        lamb: float = 1.5,
        margin: float = 1.0,
        gamma: float = 2.0,
        reduction: str = "mean",
        generator: Generator | None = None,
    ) -> None: ...

class TwoWay(ClassificationLoss):
    """Two-way loss: present labels rank above absent ones in each row, present rows above absent ones in each label.

    softplus(t_neg lse_neg(x / t_neg) + t_pos lse_pos(-x / t_pos)), over rows and over labels

    Two-Way Multi-Label Loss (CVPR 2023)
    """

    t_pos: float
    t_neg: float
    def __init__(
        self,
        num_labels: int,
        embedding_dim: int | None = None,
        *,
        t_pos: float = 4.0,
        t_neg: float = 1.0,
        generator: Generator | None = None,
    ) -> None: ...

class ZLPR(ClassificationLoss):
    """ZLPR: the lowest logit of a present label is to exceed 0, and 0 the highest of an absent one.

    log(1 + sum_pos exp(-x)) + log(1 + sum_neg exp(x))

    ZLPR: A Novel Loss for Multi-label Classification (arXiv:2208.02955)
    """

    def __init__(
        self,
        num_labels: int,
        embedding_dim: int | None = None,
        *,
        generator: Generator | None = None,
    ) -> None: ...

class Abalone(LabelWeighting):
    """ABALONE (L_MSC): MulSupCon that prefers similar label sets, with prototypes and softer negatives.

    w_ik = 1/|y_i| sum_{l in y_i & y_k} u_ik / N_il, u_ik = alpha / |y_i or y_k|; prototypes 1

    Exploring Contrastive Learning for Long-Tailed Multi-Label Text Classification (arXiv:2404.08720)
    """

    temperature: float
    alpha: float
    beta: float
    def __init__(
        self,
        num_labels: int,
        embedding_dim: int,
        *,
        temperature: float = 0.1,
        alpha: float = 1.0,
        beta: float = 0.1,
        generator: Generator | None = None,
    ) -> None: ...

class GmaScl(PairWeighting):
    """GMA-SCL's soft targets: how alike two label sets are decides how close their items shall be.

    w_ik = softmax_k(G_ik / t'), G_ik the harmonic mean of P_ik and P_ki (label similarity)

    GMA-SCL (2026): its soft-target loss, from a description; there is no released code
    """

    temperature: float
    target_temperature: float
    def __init__(
        self,
        num_labels: int,
        embedding_dim: int | None = None,
        *,
        temperature: float = 0.1,
        target_temperature: float = 0.1,
        generator: Generator | None = None,
    ) -> None: ...

class Jaccard(PairWeighting):
    """Positives weighted by the Jaccard index of the label sets (L_Base of the comprehensive study).

    w_ik = J_ik / sum_k J_ik

    Multi-Label Contrastive Learning: A Comprehensive Study (arXiv:2412.00101)
    """

    temperature: float
    def __init__(
        self,
        num_labels: int,
        embedding_dim: int | None = None,
        *,
        temperature: float = 0.1,
        generator: Generator | None = None,
    ) -> None: ...

class MulSupCon(LabelWeighting):
    """MulSupCon: every label of an anchor is a SupCon term of its own.

    w_ik = sum_{l in y_i & y_k} 1 / |P_il|

    Multi-Label Supervised Contrastive Learning (AAAI 2024)
    """

    temperature: float
    per_anchor: bool
    def __init__(
        self,
        num_labels: int,
        embedding_dim: int | None = None,
        *,
        temperature: float = 0.1,
        per_anchor: bool = False,
        generator: Generator | None = None,
    ) -> None: ...

class MultiSupCon(PairWeighting):
    """MultiSupCon: label sets that overlap enough make a positive, weighted by the Jaccard index.

    w_ik = J_ik / |P_i|, J_ik >= threshold

    Contrastive Learning for Multi-Label Classification (MultiSupCon)
    """

    temperature: float
    threshold: float
    def __init__(
        self,
        num_labels: int,
        embedding_dim: int | None = None,
        *,
        temperature: float = 0.1,
        threshold: float = 0.5,
        generator: Generator | None = None,
    ) -> None: ...

class Overlap(PairWeighting):
    """Positives weighted by the number of shared labels (the contrastive term of a kNN-enhanced text classifier).

    w_ik = |y_i & y_k| / sum_m |y_i & y_m|

    Contrastive Learning-Enhanced Nearest Neighbor Mechanism for Multi-Label Text Classification (ACL 2022)
    """

    temperature: float
    def __init__(
        self,
        num_labels: int,
        embedding_dim: int | None = None,
        *,
        temperature: float = 0.1,
        generator: Generator | None = None,
    ) -> None: ...

class Prototype(PairWeighting):
    """Each item is drawn to the prototypes of its labels, away from the others.

    w_il = 1[l in y_i] / |y_i|

    Multi-Label Contrastive Learning: A Comprehensive Study (arXiv:2412.00101)
    """

    temperature: float
    def __init__(
        self,
        num_labels: int,
        embedding_dim: int,
        *,
        temperature: float = 0.1,
        generator: Generator | None = None,
    ) -> None: ...

class RegAblated(LabelWeighting):
    """REG without its gradient regulariser: items and prototypes alike are anchors and references.

    w_ik = 1/|y_i| sum_{l in y_i & y_k} f(x_ik) / sum_m f(x_im), x_ik = |y_i & y_k| / |y_k|

    Multi-Label Contrastive Learning: A Comprehensive Study (arXiv:2412.00101)
    """

    temperature: float
    alpha: float
    def __init__(
        self,
        num_labels: int,
        embedding_dim: int,
        *,
        temperature: float = 0.1,
        alpha: float = 0.0,
        generator: Generator | None = None,
    ) -> None: ...

class SimDissim(PairWeighting):
    """Positives weighted by similarity times dissimilarity, which tell the five relations of label sets apart.

    w_ik = |y_i & y_k| / |y_i| / (1 + |y_k - y_i|) / |P_i|

    Similarity-Dissimilarity Loss for Multi-label Supervised Contrastive Learning (arXiv:2410.13439)
    """

    temperature: float
    kind: str
    def __init__(
        self,
        num_labels: int,
        embedding_dim: int | None = None,
        *,
        temperature: float = 0.07,
        kind: str = "both",
        generator: Generator | None = None,
    ) -> None: ...

class Stepwise(LabelWeighting):
    """Stepwise label loss (SLCL): one SupCon for every label, whose two classes are "has it" and "has it not".

    w_ik = 1/L sum_{l : y_il = y_kl} 1 / |P_il|

    An Effective Deployment of Contrastive Learning in Multi-label Text Classification (arXiv:2212.00552)
    """

    temperature: float
    def __init__(
        self,
        num_labels: int,
        embedding_dim: int | None = None,
        *,
        temperature: float = 0.1,
        generator: Generator | None = None,
    ) -> None: ...

class SupConAll(PairWeighting):
    """SupCon where only equal label sets make a positive (ALL; SCL in CL-MTC).

    w_ik = 1[y_i = y_k] / |P_i|

    Multi-Label Supervised Contrastive Learning (AAAI 2024)
    """

    temperature: float
    def __init__(
        self,
        num_labels: int,
        embedding_dim: int | None = None,
        *,
        temperature: float = 0.1,
        generator: Generator | None = None,
    ) -> None: ...

class SupConAny(PairWeighting):
    """SupCon where sharing any label makes a positive (ANY).

    w_ik = 1[|y_i & y_k| > 0] / |P_i|

    Multi-Label Supervised Contrastive Learning (AAAI 2024)
    """

    temperature: float
    def __init__(
        self,
        num_labels: int,
        embedding_dim: int | None = None,
        *,
        temperature: float = 0.1,
        generator: Generator | None = None,
    ) -> None: ...

class Reg(RegAblated):
    """REG: as `reg_ablated`, but a positive is never pushed away.

    w_ik as in reg_ablated; gradient on a positive: min(p_ik - w_ik, 0)

    Multi-Label Contrastive Learning: A Comprehensive Study (arXiv:2412.00101)
    """

    temperature: float
    alpha: float
    def __init__(
        self,
        num_labels: int,
        embedding_dim: int,
        *,
        temperature: float = 0.1,
        alpha: float = 0.0,
        generator: Generator | None = None,
    ) -> None: ...
