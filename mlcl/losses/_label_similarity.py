"""How alike two labels are, and how much each tells, as the labels of the training rows show it.

    M_ll' = max(ln(p_ll' / (p_l p_l')) / -ln p_ll', 0),   M_ll = 1        (normalised pointwise mutual information)
    idf_l = 1 + ln((1 + N) / (1 + n_l))

p_l is the share of the N training rows that have label l (n_l of them), p_ll' the share that have both. Labels that
occur together less often than by chance, or never, are not alike (0), so that M and all that is made of it lies in
[0, 1]. The frequency is smoothed, so that a label that every row has, or none, still counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

ROWS = 2**14  # of the training labels that are counted at once
ELEMENTS = 2**24  # of the similarities that are looked at at once


@dataclass
class LabelSimilarity:
    """`matrix` (L, L) in [0, 1], 1 on the diagonal; `idf` (L,) > 0."""

    matrix: Tensor
    idf: Tensor

    def nearest(self, labels: Tensor) -> Tensor:
        """(n, L): how alike each label is to the nearest one of each set (n, L); 0 for a set without labels."""
        found = self.matrix.new_zeros(labels.shape)
        items, carried = labels.nonzero(as_tuple=True)
        step = max(1, ELEMENTS // max(labels.shape[1], 1))
        for start in range(0, len(items), step):
            part = slice(start, start + step)
            found.scatter_reduce_(
                0, items[part, None].expand(-1, found.shape[1]), self.matrix[carried[part]], "amax"
            )
        return found


def of_training_labels(labels: Tensor) -> LabelSimilarity:
    """labels: (N, L) of 0 and 1, of any type."""
    rows, width = labels.shape
    together = labels.new_zeros((width, width), dtype=torch.float64)
    for start in range(0, rows, ROWS):
        part = labels[start : start + ROWS].to(torch.float32)  # sums of so few ones are exact
        together += (part.T @ part).double()
    counts = together.diagonal().clone()
    share = (together / max(rows, 1)).clamp_min(torch.finfo(torch.float64).tiny)
    single = share.diagonal()
    information = (share / (single[:, None] * single)).log() / -share.log().clamp_max(-1e-12)
    matrix = torch.where(together > 0, information, 0.0).clamp(0, 1)
    matrix.fill_diagonal_(1)
    idf = 1 + ((1 + rows) / (1 + counts)).log()
    return LabelSimilarity(matrix.float(), idf.float())
