"""REG: as `reg_ablated`, but a positive is never pushed away.

    L = L_ablated - 1/N+ sum_{i, k : w_ik > 0} stopgrad(max(p_ik - w_ik, 0)) s_ik

The gradient on a positive becomes min(p_ik - w_ik, 0) / N+. The value holds the detached term, as published:
compare gradients, not values, with other losses.
"""

from mlcl.losses.reg_ablated import RegAblated

CITATION = "audibert2024multilabel"


class Reg(RegAblated):
    title = "REG"
    paper = "Multi-Label Contrastive Learning: A Comprehensive Study (arXiv:2412.00101)"
    equation = "w_ik as in reg_ablated; gradient on a positive: min(p_ik - w_ik, 0)"
    anchors = ("batch", "prototypes")
    references = ("batch", "prototypes")
    never_push_positives = True
    temperature: float = 0.1
    alpha: float = 0.0
