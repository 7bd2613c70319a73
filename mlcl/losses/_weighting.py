"""The two families of pair weightings that cover the papers; a loss says how much each pair counts.

Everything is made of three matrices: the labels, the numbers of shared labels, and the sizes of the label sets.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mlcl.losses._contrastive import ContrastiveLoss
from mlcl.losses._elementwise import constant, elementwise_source
from mlcl.losses._errors import NotFusedError
from mlcl.losses._fused import FusedWeighting
from mlcl.losses._pairs import Block, Pairs, Participants, Tile, side_by_side


class PairWeighting(ContrastiveLoss):
    """W_ik = g_ik / N_i, where g is `weights` and N_i the sum, or the number, of its positive entries."""

    normaliser = "weights"  # or "positives"

    def weights(self, pairs: Pairs) -> Tensor:
        """g (t, m) >= 0 for a matrix of pairs; the pair of an item with itself is removed afterwards."""
        raise NotImplementedError

    def tile_weights(self, tile: Tile) -> Tensor:
        g = side_by_side([block.without_self(self.weights(block.pairs)) for block in tile.blocks])
        counted = g if self.normaliser == "weights" else (g > 0).to(g)
        return g / nonzero(counted.sum(1, keepdim=True), self.epsilon)

    def fused_weighting(self, participants: Participants) -> FusedWeighting:
        own_tile_weights(self, PairWeighting)
        return FusedWeighting(elementwise_source(self.weights), self.normaliser, self.epsilon)


class LabelWeighting(ContrastiveLoss):
    """Each label l of an anchor spreads its own weight over the references that carry it:

        W_ik = 1/|y_i| sum_{l in y_i and y_k} F_ik / N_il,      N_il = sum_{k: l in y_k} F_ik

    With U_il = y_il / (N_il |y_i|) this is W = F * (U Y^T): no (B, B, L) tensor. The factor 1/|y_i| is left
    out where the reduction is over pairs of label and anchor.
    """

    positives_share_labels = True

    def weights(self, pairs: Pairs) -> Tensor | float:
        """F (t, m) >= 0 for pairs of any anchor with references of the batch; may be a number."""
        raise NotImplementedError

    def prototype_weights(self, pairs: Pairs) -> Tensor | float:
        """F (t, L) for pairs of a batch anchor with prototypes; as `weights` where it is not overridden."""
        return self.weights(pairs)

    def tile_weights(self, tile: Tile) -> Tensor:
        return self._prototype_rows(tile) if tile.anchors.labels is None else self._batch_rows(tile)

    def fused_weighting(self, participants: Participants) -> FusedWeighting:
        own_tile_weights(self, LabelWeighting)
        factor = constant(self.weights)
        batch, (_, references) = participants.batch, participants.references[0]
        assert references.labels is not None
        carriers = (references.labels.sum(0) - int(participants.exclude_self)).clamp_min(0) * factor
        anchor_factors = torch.ones_like(batch.sizes)
        if self.reduction != "pairs":
            anchor_factors = anchor_factors / nonzero(batch.sizes)
        return FusedWeighting(
            elementwise_source(lambda pairs: pairs.shared),
            anchor_factors=anchor_factors,
            label_factors=factor / nonzero(carriers, self.epsilon),
        )

    def _batch_rows(self, tile: Tile) -> Tensor:
        factors = {
            b.group: self.weights(b.pairs) if b.group == "batch" else self.prototype_weights(b.pairs)
            for b in tile.blocks
        }
        labels = tile.anchors.labels
        assert labels is not None
        normaliser = torch.zeros_like(labels)
        for block in tile.blocks:
            normaliser = normaliser + carried(factors[block.group], block, labels)
        share = labels / nonzero(normaliser, self.epsilon)
        if self.reduction != "pairs":
            share = share / nonzero(tile.anchors.sizes)[:, None]
        return side_by_side([b.without_self(spread(share, b) * factors[b.group]) for b in tile.blocks])

    def _prototype_rows(self, tile: Tile) -> Tensor:
        """A prototype carries one label, so W_lk = F_lk y_kl / N_l; no two prototypes share a label."""
        blocks = [
            b.pairs.shared * self.weights(b.pairs)
            if b.group == "batch"
            else b.pairs.shared.new_zeros(b.pairs.shape)
            for b in tile.blocks
        ]
        g = side_by_side(blocks)
        return g / nonzero(g.sum(1, keepdim=True), self.epsilon)


def own_tile_weights(loss: ContrastiveLoss, family: type[ContrastiveLoss]) -> None:
    """Raise NotFusedError where a loss makes its weights in another way than its family."""
    if type(loss).tile_weights is not family.tile_weights:
        raise NotFusedError("it has tile_weights of its own")


def nonzero(normaliser: Tensor, epsilon: float = 0.0) -> Tensor:
    """A divisor: where the normaliser is 0 all that it divides is 0 too, and 1 does as well."""
    divisor = normaliser.masked_fill(normaliser == 0, 1)
    return divisor.add_(epsilon) if epsilon else divisor


def carried(factor: Tensor | float, block: Block, labels: Tensor) -> Tensor | float:
    """sum_k F_ik y_kl over the block's references other than i itself, (t, L)."""
    if block.references.labels is None:
        return factor
    if isinstance(factor, Tensor):
        return block.without_self(factor) @ block.references.labels
    counts = block.references.labels.sum(0)
    return (counts - labels if block.self_column is not None else counts) * factor


def spread(share: Tensor, block: Block) -> Tensor:
    """sum_l U_il y_kl: what the labels of each anchor give to each reference, (t, m)."""
    return share if block.references.labels is None else share @ block.references.labels.T
