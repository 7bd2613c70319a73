"""What a pair weighting is told about its pairs: how many labels anchors and references share and carry."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class LabelSets:
    """The label sets of n items: rows of a multi-hot matrix, or prototypes, the l-th with label l alone.

    `first` is the index of the first item within its group (batch, references or prototypes).
    """

    sizes: Tensor  # (n,) number of labels
    labels: Tensor | None  # (n, L); None for prototypes, whose matrix (rows of the identity) is never needed
    first: int = 0

    @classmethod
    def rows(cls, labels: Tensor, sizes: Tensor, start: int = 0, stop: int | None = None) -> LabelSets:
        return cls(sizes[start:stop], labels[start:stop], start)

    @classmethod
    def prototypes(cls, start: int, stop: int, like: Tensor) -> LabelSets:
        return cls(like.new_ones(stop - start), None, start)


class Pairs:
    """All pairs of t anchors and m references, as matrices that broadcast to (t, m)."""

    def __init__(self, anchors: LabelSets, references: LabelSets) -> None:
        self._anchors, self._references = anchors, references

    @cached_property
    def shared(self) -> Tensor:
        """(t, m): number of labels that both carry."""
        anchors, references = self._anchors, self._references
        if anchors.labels is None and references.labels is None:
            shared = anchors.sizes.new_zeros(len(anchors.sizes), len(references.sizes))
            shared.diagonal(anchors.first).fill_(1)
            return shared
        if references.labels is None:
            assert anchors.labels is not None
            return anchors.labels
        if anchors.labels is None:
            return references.labels.T[anchors.first : anchors.first + len(anchors.sizes)]
        return anchors.labels @ references.labels.T

    @property
    def anchor_sizes(self) -> Tensor:
        """(t, 1): number of labels of each anchor."""
        return self._anchors.sizes[:, None]

    @property
    def reference_sizes(self) -> Tensor:
        """(1, m): number of labels of each reference."""
        return self._references.sizes[None, :]

    @property
    def union(self) -> Tensor:
        """(t, m): number of labels that at least one of them carries; 0 only for two empty sets."""
        return (self.anchor_sizes + self.reference_sizes).sub_(self.shared)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self._anchors.sizes), len(self._references.sizes)

    def full(self, value: float) -> Tensor:
        """(t, m) filled with one value."""
        return torch.full(
            self.shape, value, dtype=self._anchors.sizes.dtype, device=self._anchors.sizes.device
        )
