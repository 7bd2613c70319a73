"""Contrastive losses as pair weightings: the two families that cover the papers (the sum is `_kernel`'s)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mlcl.losses._base import Loss, check_labels, check_matrix, full_precision
from mlcl.losses._distributed import Ranks
from mlcl.losses._errors import LossInputError
from mlcl.losses._kernel import Problem, WeightedCrossEntropy
from mlcl.losses._pairs import LabelSets, Pairs

# Elements of one (anchors, references) tile: large enough for full speed of the matrix products, small enough
# that a handful of such float32 matrices stay below 200 MB.
TILE_ELEMENTS = 2**22


class ContrastiveLoss(Loss):
    """A loss on embeddings (B, D), defined by a pair weighting W and by who are anchors and references.

    reduction: what the sum over anchors is divided by
        "anchors"           all of them; those without positives contribute 0
        "positive_anchors"  those that have a positive
        "pairs"             the (label, anchor) pairs, sum_i |y_i|
    """

    anchors: tuple[str, ...] = ("batch",)
    references: tuple[str, ...] = ("batch",)
    reduction: str = "anchors"
    keep_positives = False  # never push a positive away (REG)
    epsilon = 0.0  # added to each normaliser, where the paper's code does so
    temperature: float
    prototypes: nn.Parameter | None
    tile_elements = TILE_ELEMENTS

    def __init__(
        self,
        num_labels: int,
        embedding_dim: int | None = None,
        generator: torch.Generator | None = None,
        **hyperparameters: Any,
    ) -> None:
        super().__init__(num_labels, embedding_dim, generator, **hyperparameters)
        self.register_parameter("prototypes", None)
        if "prototypes" in self.anchors + self.references:
            assert embedding_dim is not None
            self.prototypes = nn.Parameter(torch.empty(num_labels, embedding_dim))
            nn.init.xavier_uniform_(self.prototypes, generator=generator)

    def label_sets(self, labels: Tensor) -> Tensor:
        """The label sets (B, any width) that the weights are made of; the labels themselves by default."""
        return labels

    def denominator_weight(self) -> float:
        """How much each reference of the batch (or given in its stead) counts in the denominator."""
        return 1.0

    def tile_weights(self, tile: Tile) -> Tensor:
        """W (t, m) of the tile's anchors."""
        raise NotImplementedError

    def forward(
        self, embeddings: Tensor, labels: Tensor, references: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """Scalar loss of raw embeddings (B, D) and labels (B, L) in {0, 1} of any type.

        `references` (embeddings (Q, D), labels (Q, L)), such as momentum keys and a queue, take the place of
        the batch as references; then no pair is excluded. A loss whose references are prototypes alone has
        no use for them. Raises LossInputError for wrong shapes, types or label values.
        """
        check_matrix("embeddings", embeddings, self.embedding_dim)
        labels = self._checked_labels("labels", labels, embeddings)
        embeddings = full_precision(embeddings)
        others, other_labels = None, None
        if references is not None and "batch" in self.references:
            others, other_labels = self._check_references(embeddings, references)
        prototypes = None if self.prototypes is None else self.prototypes.to(embeddings.dtype)
        ranks = Ranks(self.process_group, embeddings)
        labels = ranks.gather(labels)
        sets = Sets(self, labels, other_labels)
        problem = Problem(
            weights=lambda group, start, stop: self.tile_weights(sets.tile(group, start, stop)),
            anchors=self.anchors,
            references=self.references,
            exclude_self=others is None,
            temperature=self.temperature,
            batch_weight=self.denominator_weight(),
            keep_positives=self.keep_positives,
            total_weight=self._total_weight(sets),
            tile_elements=self.tile_elements,
            ranks=ranks,
            needs_gradient=torch.is_grad_enabled()
            and any(t is not None and t.requires_grad for t in (embeddings, others, prototypes)),
        )
        with torch.autocast(embeddings.device.type, enabled=False):
            loss: Tensor = WeightedCrossEntropy.apply(embeddings, others, prototypes, problem)
        return loss

    def _total_weight(self, sets: Sets) -> float | None:
        if self.reduction == "positive_anchors":
            return None
        if self.reduction == "pairs":
            return sets.sizes.sum(dtype=torch.float64).item()
        return len(sets.sizes) * ("batch" in self.anchors) + self.num_labels * ("prototypes" in self.anchors)

    def _check_references(
        self, embeddings: Tensor, references: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        if not isinstance(references, tuple | list) or len(references) != 2:
            raise LossInputError("references must be a pair (embeddings (Q, D), labels (Q, L))")
        others, labels = references
        check_matrix("reference embeddings", others, embeddings.shape[1])
        return others.to(embeddings.dtype), self._checked_labels("reference labels", labels, others)

    def _checked_labels(self, name: str, labels: Tensor, embeddings: Tensor) -> Tensor:
        return self.label_sets(check_labels(name, labels, len(embeddings), self.num_labels, embeddings))


class PairWeighting(ContrastiveLoss):
    """W_ik = g_ik / N_i, where g is `weights` and N_i the sum, or the number, of its positive entries."""

    normaliser = "weights"  # or "positives"

    def weights(self, pairs: Pairs) -> Tensor:
        """g (t, m) >= 0 for a matrix of pairs; the pair of an item with itself is removed by the caller."""
        raise NotImplementedError

    def tile_weights(self, tile: Tile) -> Tensor:
        blocks = [without_self(self.weights(block.pairs), block) for block in tile.blocks]
        g = torch.cat(blocks, 1) if len(blocks) > 1 else blocks[0]
        total = (g.sum(1, keepdim=True) if self.normaliser == "weights" else (g > 0).sum(1, keepdim=True)).to(
            g
        )
        return g / nonzero(total, self.epsilon)


class LabelWeighting(ContrastiveLoss):
    """Each label l of an anchor spreads its own weight over the references that carry it:

        W_ik = 1/|y_i| sum_{l in y_i and y_k} F_ik / N_il,      N_il = sum_{k: l in y_k} F_ik

    With U_il = y_il / (N_il |y_i|) this is W = F * (U Y^T): no (B, B, L) tensor. The factor 1/|y_i| is left
    out where the reduction is over pairs of label and anchor.
    """

    def weights(self, pairs: Pairs) -> Tensor | float:
        """F (t, m) >= 0 for pairs of any anchor with references of the batch; may be a number."""
        raise NotImplementedError

    def prototype_weights(self, pairs: Pairs) -> Tensor | float:
        """F (t, L) for pairs of a batch anchor with prototypes; as `weights` where it is not overridden."""
        return self.weights(pairs)

    def tile_weights(self, tile: Tile) -> Tensor:
        return self._prototype_rows(tile) if tile.anchors.labels is None else self._batch_rows(tile)

    def _batch_rows(self, tile: Tile) -> Tensor:
        labels = tile.anchors.labels
        assert labels is not None
        factors = [
            self.weights(b.pairs) if b.group == "batch" else self.prototype_weights(b.pairs)
            for b in tile.blocks
        ]
        normaliser: Tensor | float = 0.0
        for block, factor in zip(tile.blocks, factors, strict=True):
            normaliser = normaliser + _carried(factor, block, labels)
        assert isinstance(normaliser, Tensor)
        share = labels / nonzero(normaliser, self.epsilon)
        if self.reduction != "pairs":
            share = share / nonzero(tile.anchors.sizes)[:, None]
        blocks = [
            without_self((share if b.group == "prototypes" else share @ b.references.labels.T) * factor, b)  # type: ignore[union-attr]
            for b, factor in zip(tile.blocks, factors, strict=True)
        ]
        return torch.cat(blocks, 1) if len(blocks) > 1 else blocks[0]

    def _prototype_rows(self, tile: Tile) -> Tensor:
        """A prototype carries one label, so W_lk = F_lk y_kl / N_l; no two prototypes share a label."""
        blocks = [
            b.pairs.shared * self.weights(b.pairs) if b.group == "batch" else b.pairs.full(0)
            for b in tile.blocks
        ]
        g = torch.cat(blocks, 1) if len(blocks) > 1 else blocks[0]
        return g / nonzero(g.sum(1, keepdim=True), self.epsilon)


class Block:
    """The pairs of a tile's anchors with one group of references."""

    def __init__(
        self, group: str, anchors: LabelSets, references: LabelSets, self_column: int | None
    ) -> None:
        self.group, self.references, self.self_column = group, references, self_column
        self.pairs = Pairs(anchors, references)


class Tile:
    """Consecutive anchors of one group and, block by block, all references."""

    def __init__(self, anchors: LabelSets, blocks: list[Block]) -> None:
        self.anchors, self.blocks = anchors, blocks


class Sets:
    """The label sets of everybody who takes part in one call of a loss."""

    def __init__(self, loss: ContrastiveLoss, labels: Tensor, others: Tensor | None) -> None:
        self.labels, self.exclude_self = labels, others is None
        self.sizes = labels.sum(1)
        batch = LabelSets(self.sizes, labels) if others is None else LabelSets(others.sum(1), others)
        groups = {"batch": batch, "prototypes": LabelSets.prototypes(0, labels.shape[1], labels)}
        self.references = [(group, groups[group]) for group in loss.references]

    def tile(self, group: str, start: int, stop: int) -> Tile:
        if group == "batch":
            anchors = LabelSets.rows(self.labels, self.sizes, start, stop)
        else:
            anchors = LabelSets.prototypes(start, stop, self.labels)
        blocks = []
        for reference_group, references in self.references:
            meets_itself = group == reference_group and (group == "prototypes" or self.exclude_self)
            blocks.append(Block(reference_group, anchors, references, start if meets_itself else None))
        return Tile(anchors, blocks)


def without_self(weights: Tensor, block: Block) -> Tensor:
    """The weights with 0 for the pair of an item with itself."""
    if block.self_column is not None:
        weights.diagonal(block.self_column).zero_()
    return weights


def nonzero(normaliser: Tensor, epsilon: float = 0.0) -> Tensor:
    """A divisor: where the normaliser is 0 all that it divides is 0 too, and 1 does as well."""
    divisor = normaliser.masked_fill(normaliser == 0, 1)
    return divisor.add_(epsilon) if epsilon else divisor


def _carried(factor: Tensor | float, block: Block, labels: Tensor) -> Tensor:
    """sum_k F_ik y_kl over the block's references other than i itself, (t, L)."""
    if block.group == "prototypes":
        return torch.as_tensor(factor, dtype=labels.dtype, device=labels.device)
    carried = block.references.labels
    assert carried is not None
    if isinstance(factor, Tensor):
        return without_self(factor, block) @ carried
    counts = carried.sum(0)
    return (counts - labels if block.self_column is not None else counts) * factor
