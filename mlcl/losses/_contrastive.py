"""The base of contrastive losses: checks the input, brings together everybody who takes part, calls the kernel."""

from __future__ import annotations

import warnings
from typing import Any, cast

import torch
from torch import Tensor, nn

from mlcl.losses._base import Loss, check_labels, check_matrix, full_precision
from mlcl.losses._distributed import Ranks
from mlcl.losses._errors import LossError, LossInputError, NotFusedError
from mlcl.losses._fused import FusedCrossEntropy, FusedWeighting, check_covered, check_faster
from mlcl.losses._kernel import Problem, WeightedCrossEntropy
from mlcl.losses._label_similarity import LabelSimilarity, of_training_labels
from mlcl.losses._pairs import Participants, Tile

# Elements of one (anchors, references) tile: large enough for full speed of the matrix products, small enough
# that a handful of such float32 matrices stay below 200 MB (on CUDA: 2 GB).
TILE_ELEMENTS = {"cpu": 2**22, "cuda": 2**26}
# Prototypes are sorted, and those without positives skipped, if fewer than this share of labels occur.
SKIP_BELOW = 0.8
KERNELS = ("auto", "tile", "fused")
REDUCTIONS = ("anchors", "positive_anchors", "pairs")


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
    never_push_positives = False  # no gradient moves a positive away from its anchor (REG)
    positives_share_labels = False  # whether W_ik > 0 only where i and k have a label in common
    epsilon = 0.0  # added to each normaliser, where the paper's code does so
    temperature: float
    prototypes: nn.Parameter | None
    label_similarity: Tensor
    label_idf: Tensor
    tile_elements: int | None = None  # None: TILE_ELEMENTS
    kernel: str = "auto"
    """"tile", "fused" (CUDA: keeps no matrix of pairs) where `_fused.py` covers the call, or "auto": the fused
    form where it is also known to be the faster one."""
    still_after = 1000
    """Calls in training after which prototypes that never changed are warned of."""
    kernel_used: str = ""  # by the last call: "fused", "tile", or "tile, because ..."

    def __init__(
        self,
        num_labels: int,
        embedding_dim: int | None = None,
        generator: torch.Generator | None = None,
        **hyperparameters: Any,
    ) -> None:
        super().__init__(num_labels, embedding_dim, generator, **hyperparameters)
        if self.reduction not in REDUCTIONS:
            raise LossError(
                f"{type(self).__name__}.reduction = {self.reduction!r}; allowed: {', '.join(REDUCTIONS)}"
            )
        self.register_parameter("prototypes", None)
        if "prototypes" in self.anchors + self.references:
            if embedding_dim is None:
                raise LossError(f"{type(self).__name__} has prototypes: give embedding_dim, their width")
            self.prototypes = nn.Parameter(torch.empty(num_labels, embedding_dim))
            nn.init.xavier_uniform_(self.prototypes, generator=generator)
        if self.compares_labels:
            self.register_buffer("label_similarity", torch.eye(num_labels))
            self.register_buffer("label_idf", torch.ones(num_labels))
        self._calls = 0

    def read_training_labels(self, labels: Tensor) -> None:
        """How alike labels are is learnt from those of the training rows (N, L); before, each is like itself alone."""
        if self.compares_labels:
            found = of_training_labels(labels)
            self.label_similarity, self.label_idf = found.matrix, found.idf

    def _participants(self, labels: Tensor, others: Tensor | None) -> Participants:
        similarity = None
        if self.compares_labels:
            similarity = LabelSimilarity(
                self.label_similarity.to(labels.dtype), self.label_idf.to(labels.dtype)
            )
        return Participants(labels, others, self.references, similarity)

    def label_sets(self, labels: Tensor) -> Tensor:
        """The label sets (B, any width) that the weights are made of; the labels themselves by default."""
        return labels

    def denominator_weight(self) -> float:
        """How much each reference of the batch (or given in its stead) counts in the denominator."""
        return 1.0

    def tile_weights(self, tile: Tile) -> Tensor:
        """W (t, m) of the tile's anchors."""
        raise NotImplementedError

    def fused_weighting(self, participants: Participants) -> FusedWeighting:
        """W for the fused kernel; raises NotFusedError where it has no such form."""
        raise NotFusedError("its weighting is of a kind of its own")

    def forward(
        self, embeddings: Tensor, labels: Tensor, references: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """Scalar loss of raw embeddings (B, D) and labels (B, L) in {0, 1} of any type.

        `references` (embeddings (Q, D), labels (Q, L)), such as momentum keys and a queue, take the place of
        the batch as references; then no pair is excluded. A loss whose references are prototypes alone has
        no use for them. Raises LossInputError for wrong shapes, types or label values.
        """
        self._warn_of_still_prototypes()
        check_matrix("embeddings", embeddings, self.embedding_dim)
        labels = self._checked_labels("labels", labels, embeddings)
        embeddings = full_precision(embeddings)
        others, other_labels = None, None
        if references is not None and "batch" in self.references:
            others, other_labels = self._check_references(embeddings, references)
        prototypes = None if self.prototypes is None else self.prototypes.to(embeddings.dtype)
        ranks = Ranks(self.process_group, embeddings)
        labels = ranks.gather(labels)
        prototype_anchors = None
        if prototypes is not None and self._may_skip_prototypes(embeddings):
            occurs = (labels if other_labels is None else other_labels).any(0)
            count = int(occurs.sum())
            if count < SKIP_BELOW * self.num_labels:
                prototype_anchors, order = count, occurs.argsort(descending=True, stable=True)
                prototypes, labels = prototypes[order], labels[:, order]
                other_labels = None if other_labels is None else other_labels[:, order]
        participants = self._participants(labels, other_labels)
        problem = Problem(
            weights=lambda group, start, stop: self.tile_weights(participants.tile(group, start, stop)),
            anchors=self.anchors,
            references=self.references,
            exclude_self=others is None,
            temperature=self.temperature,
            batch_weight=self.denominator_weight(),
            never_push_positives=self.never_push_positives,
            total_weight=self._total_weight(participants.batch.sizes),
            prototype_anchors=prototype_anchors,
            tile_elements=self.tile_elements
            or TILE_ELEMENTS.get(embeddings.device.type, TILE_ELEMENTS["cpu"]),
            needs_gradient=torch.is_grad_enabled()
            and any(t is not None and t.requires_grad for t in (embeddings, others, prototypes)),
            ranks=ranks,
        )
        with torch.autocast(embeddings.device.type, enabled=False):
            fused = self._fused_weighting(problem, participants, embeddings)
            if fused is not None:
                arguments = (embeddings, others, problem, participants, fused)
                return cast(Tensor, FusedCrossEntropy.apply(*arguments))
            loss: Tensor = WeightedCrossEntropy.apply(embeddings, others, prototypes, problem)
        return loss

    def _warn_of_still_prototypes(self) -> None:
        """Prototypes are parameters: where no optimizer has them, they stay as they were drawn, and nothing fails."""
        if self.prototypes is None or not (self.prototypes.requires_grad and torch.is_grad_enabled()):
            return
        self._calls += 1
        if self._calls == 1:
            self._first_sum = self.prototypes.detach().sum()
        elif self._calls == self.still_after and float(self._first_sum) == float(
            self.prototypes.detach().sum()
        ):
            warnings.warn(
                f"{type(self).__name__}: the prototypes have not changed in {self._calls} calls; give "
                "loss.parameters() to the optimizer",
                stacklevel=3,
            )

    def _fused_weighting(
        self, problem: Problem, participants: Participants, embeddings: Tensor
    ) -> FusedWeighting | None:
        """What the fused form needs where it is to compute the call; says in `kernel_used` if not, and why."""
        self.kernel_used = "tile"
        if self.kernel not in KERNELS:
            raise LossError(f"{type(self).__name__}.kernel = {self.kernel!r}; allowed: {', '.join(KERNELS)}")
        if self.kernel == "tile":
            return None
        try:
            check_covered(problem, embeddings)
            if self.kernel == "auto":  # before the weighting, which small batches need not wait for
                check_faster(participants, embeddings, weighted=False)
            weighting = self.fused_weighting(participants)
            if self.kernel == "auto" and weighting.label_factors is not None:
                check_faster(participants, embeddings, weighted=True)
        except NotFusedError as reason:
            self.kernel_used = f"tile, because {reason}"
            return None
        self.kernel_used = "fused"
        return weighting

    def pair_weights(self, labels: Tensor) -> Tensor:
        """The loss's weights W of a batch with these labels (B, L), for a look: rows are anchors, columns
        references, each the batch and then the prototypes, where the loss has them on that side."""
        labels = self.label_sets(check_labels("labels", labels, len(labels), self.num_labels, labels))
        participants = self._participants(labels, None)
        counts = {"batch": len(labels), "prototypes": self.num_labels}
        return torch.cat([self.tile_weights(participants.tile(g, 0, counts[g])) for g in self.anchors])

    def _may_skip_prototypes(self, embeddings: Tensor) -> bool:
        """Whether the prototype of a label that no reference has is an anchor without value and gradient.

        Such prototypes are put last and skipped. On the CPU only: for a GPU's number of them the host would wait.
        """
        return (
            "prototypes" in self.anchors and self.positives_share_labels and embeddings.device.type == "cpu"
        )

    def _total_weight(self, sizes: Tensor) -> Tensor | float | None:
        if self.reduction == "positive_anchors":
            return None
        if self.reduction == "pairs":
            return sizes.sum(dtype=torch.float64)
        return len(sizes) * ("batch" in self.anchors) + self.num_labels * ("prototypes" in self.anchors)

    def _check_references(
        self, embeddings: Tensor, references: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        if not isinstance(references, tuple | list) or len(references) != 2:
            raise LossInputError("references must be a pair (embeddings (Q, D), labels (Q, L))")
        others, labels = references
        check_matrix("reference embeddings", others, embeddings.shape[1])
        others = others.to(embeddings.dtype)
        return others, self._checked_labels("reference labels", labels, others)

    def _checked_labels(self, name: str, labels: Tensor, embeddings: Tensor) -> Tensor:
        return self.label_sets(check_labels(name, labels, len(embeddings), self.num_labels, embeddings))
