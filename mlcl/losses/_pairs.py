"""Who takes part in a call of a contrastive loss, and what a weighting is told about the pairs.

Anchors and references come in groups, "batch" and "prototypes". Of a matrix of pairs a weighting sees how many
labels the two share and how many each carries; a prototype carries its own label alone. Where a loss compares labels,
a weighting also sees how well the labels of one are matched by those of the other (`_label_similarity`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from mlcl.losses._errors import LossError
from mlcl.losses._label_similarity import LabelSimilarity


@dataclass
class LabelSets:
    """The label sets of n items: rows of a multi-hot matrix, or prototypes, the l-th with label l alone."""

    sizes: Tensor  # (n,) number of labels
    labels: Tensor | None  # (n, L); None for prototypes, whose matrix (rows of the identity) is never needed
    first: int = 0  # index of the first item within its group
    nearest: Tensor | None = None  # (n, L) how alike each label is to the nearest one of the set


class Pairs:
    """All pairs of t anchors and m references, as matrices that broadcast to (t, m)."""

    def __init__(
        self, anchors: LabelSets, references: LabelSets, similarity: LabelSimilarity | None = None
    ) -> None:
        self._anchors, self._references, self._similarity = anchors, references, similarity

    @cached_property
    def shared(self) -> Tensor:
        """(t, m): number of labels that both carry."""
        anchors, references = self._anchors, self._references
        if anchors.labels is not None and references.labels is not None:
            return anchors.labels @ references.labels.T
        if anchors.labels is not None:  # does the anchor carry the prototype's label?
            return anchors.labels
        if references.labels is not None:
            return references.labels.T[anchors.first : anchors.first + len(anchors.sizes)]
        shared = anchors.sizes.new_zeros(self.shape)
        shared.diagonal(anchors.first).fill_(1)
        return shared

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
    def matched(self) -> Tensor:
        """(t, m) in [0, 1]: how well the labels of the anchor are matched by those of the reference: the mean over
        them, weighted by idf, of how alike each is to the nearest of the reference's. 0 without labels."""
        return self._matched(self._anchors, self._references)

    @property
    def matched_by_references(self) -> Tensor:
        """(t, m): how well the labels of the reference are matched by those of the anchor."""
        return self._matched(self._references, self._anchors).T

    def _matched(self, ones: LabelSets, others: LabelSets) -> Tensor:
        if self._similarity is None or ones.labels is None or others.nearest is None:
            raise LossError(
                "only a loss with compares_labels = True, between items, can ask how well labels match"
            )
        weighted = ones.labels * self._similarity.idf
        return weighted @ others.nearest.T / weighted.sum(1, keepdim=True).clamp_min(1e-12)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self._anchors.sizes), len(self._references.sizes)


class Block:
    """The pairs of a tile's anchors with one group of references."""

    def __init__(
        self,
        group: str,
        anchors: LabelSets,
        references: LabelSets,
        self_column: int | None,
        similarity: LabelSimilarity | None,
    ) -> None:
        self.group, self.references = group, references
        self.self_column = self_column  # where the first anchor meets itself, the next one column further
        self.pairs = Pairs(anchors, references, similarity)

    def without_self(self, weights: Tensor) -> Tensor:
        """The weights (t, m) with 0 for the pair of an item with itself; may change its argument."""
        if weights.shape != self.pairs.shape:
            raise LossError(
                f"weights must have the shape of the pairs {self.pairs.shape}, got {tuple(weights.shape)}"
            )
        if self.self_column is not None:
            weights = weights.contiguous()
            weights.diagonal(self.self_column).zero_()
        return weights


class Tile:
    """Consecutive anchors of one group and, block by block, all references."""

    def __init__(self, anchors: LabelSets, blocks: list[Block]) -> None:
        self.anchors, self.blocks = anchors, blocks


class Participants:
    """The label sets of all anchors and references of one call."""

    def __init__(
        self,
        labels: Tensor,
        others: Tensor | None,
        references: tuple[str, ...],
        similarity: LabelSimilarity | None = None,
    ) -> None:
        """`labels` (B, L) of the batch, `others` (Q, L) of references in its stead, groups of references;
        `similarity` of the labels, for a loss that compares them."""
        self._similarity = similarity
        self.batch = self._items(labels)
        self.exclude_self = others is None
        stand_in = self.batch if others is None else self._items(others)
        groups = {"batch": stand_in, "prototypes": LabelSets(labels.new_ones(labels.shape[1]), None)}
        self.references = [(group, groups[group]) for group in references]

    def tile(self, group: str, start: int, stop: int) -> Tile:
        if group == "batch":
            assert self.batch.labels is not None
            nearest = None if self.batch.nearest is None else self.batch.nearest[start:stop]
            anchors = LabelSets(self.batch.sizes[start:stop], self.batch.labels[start:stop], start, nearest)
        else:
            anchors = LabelSets(self.batch.sizes.new_ones(stop - start), None, start)
        blocks = []
        for reference_group, references in self.references:
            meets_itself = group == reference_group and (group == "prototypes" or self.exclude_self)
            self_column = start if meets_itself else None
            blocks.append(Block(reference_group, anchors, references, self_column, self._similarity))
        return Tile(anchors, blocks)

    def _items(self, labels: Tensor) -> LabelSets:
        nearest = None if self._similarity is None else self._similarity.nearest(labels)
        return LabelSets(labels.sum(1), labels, nearest=nearest)


def side_by_side(blocks: list[Tensor]) -> Tensor:
    """One matrix of all blocks' columns."""
    return torch.cat(blocks, 1) if len(blocks) > 1 else blocks[0]
