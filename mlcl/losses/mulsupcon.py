"""MulSupCon: every label of an anchor is a SupCon term of its own.

    P_il = {k != i : l in y_k},   L = 1/sum_i |y_i| sum_i sum_{l in y_i} 1/|P_il| sum_{k in P_il} -log p_ik

An empty P_il contributes 0 and is counted. `per_anchor` divides the terms of anchor i by |y_i| B instead (the
weighted form of the released code).
"""

from mlcl.losses import LabelWeighting, Pairs

CITATION = "zhang2024multilabel"


class MulSupCon(LabelWeighting):
    title = "MulSupCon"
    paper = "Multi-Label Supervised Contrastive Learning (AAAI 2024)"
    equation = "w_ik = sum_{l in y_i & y_k} 1 / |P_il|"
    temperature: float = 0.1
    per_anchor: bool = False

    @property
    def reduction(self) -> str:  # type: ignore[override]
        return "anchors" if self.per_anchor else "pairs"

    def weights(self, pairs: Pairs) -> float:
        return 1.0
