"""Contrastive against classification losses: the difference of the families' means, and the readout's part in it.

A classification loss trains a head together with the encoder, and papers read it by that head, but read a contrastive
loss by linear heads on its frozen features. Read alike, both by linear heads, the families differ by what they make of
the encoder. What the readout adds is the gain of linear heads over the trained head on the same encoders of the
classification losses: the difference as papers see it is the sum of the two.

Losses that mix both (`inputs` other than logits and embeddings) belong to no family.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlcl.reporting.contrasts import Term
from mlcl.reporting.leaderboard.comparisons import Comparison
from mlcl.reporting.metric_info import MetricInfo
from mlcl.reporting.standings import equal_weights
from mlcl.reporting.statistics import ALPHA
from mlcl.reporting.statistics.contrast import Contrast
from mlcl.reporting.statistics.seeds import Estimate

CLASSIFICATION, CONTRASTIVE = "logits", "embeddings"
"""What the losses of a family are called with."""
SAME, HEAD = "linear", "head"


@dataclass(frozen=True)
class FamilyDifference:
    """On the datasets of one comparison, in the metric's own units, positive in favour of contrastive losses.

    `difference`: the mean over the contrastive losses less that over the classification losses, both by linear heads;
    `readout`: by how much linear heads raise the mean of the classification losses over their own heads, None where
    they were not read by both. Together: the difference with each loss by its own readout.
    """

    comparison: Comparison
    classification: tuple[str, ...]
    contrastive: tuple[str, ...]
    difference: Estimate
    readout: Estimate | None

    @property
    def metric(self) -> MetricInfo:
        assert self.comparison.standing is not None
        return self.comparison.standing.metric

    @property
    def answer(self) -> str:
        """Which family is ahead; a difference that is printed as 0 decides nothing."""
        interval = self.difference
        if not self.metric.is_visible(interval.value) or interval.low <= 0 <= interval.high:
            return "cannot be told apart"
        return "contrastive losses are ahead" if interval.value > 0 else "classification losses are ahead"


def family_differences(comparisons: Sequence[Comparison]) -> list[FamilyDifference]:
    """Of the comparisons of one study by linear heads that have intervals and both families; what is stated of them
    holds together (Bonferroni)."""
    drafts = [draft for comparison in comparisons if (draft := _draft(comparison))]
    stated = sum(1 + (readout is not None) for *_, readout in drafts)
    confidence = 1 - ALPHA / max(stated, 1)
    return [
        FamilyDifference(
            comparison,
            classification,
            contrastive,
            difference.interval(confidence),
            None if readout is None else readout.interval(confidence),
        )
        for comparison, classification, contrastive, difference, readout in drafts
    ]


_Draft = tuple[Comparison, tuple[str, ...], tuple[str, ...], Contrast, Contrast | None]


def _draft(comparison: Comparison) -> _Draft | None:
    standing, study = comparison.standing, comparison.study
    if comparison.place.readout != SAME or standing is None or not standing.is_known:
        return None
    losses = study.results.outline.losses
    classification, contrastive = (
        tuple(loss for loss in standing.means if losses[loss].inputs == inputs)
        for inputs in (CLASSIFICATION, CONTRASTIVE)
    )
    if not classification or not contrastive:
        return None
    sign = 1.0 if standing.metric.higher_is_better else -1.0
    metric, split = standing.metric.name, study.results.outline.split
    of_classification = _terms(comparison, classification, sign)
    difference = study.contrasts.of(
        [*_terms(comparison, contrastive, sign), *((-weight, row) for weight, row in of_classification)],
        metric,
        split,
    )
    readout = None
    if _has_heads(comparison, classification, metric):
        readout = study.contrasts.between_readouts(of_classification, metric, split, SAME, HEAD)
    return comparison, classification, contrastive, difference, readout


def _terms(comparison: Comparison, losses: Sequence[str], sign: float) -> list[Term]:
    """The mean over losses of the mean over datasets."""
    return [
        (sign * weight / len(losses), (*column, loss, comparison.variant))
        for column, weight in equal_weights(comparison.columns).items()
        for loss in losses
    ]


def _has_heads(comparison: Comparison, losses: Sequence[str], metric: str) -> bool:
    results = comparison.study.results
    by_head, split = results.with_readout(HEAD), results.outline.split
    rows = [row for _, row in _terms(comparison, losses, 1.0)]
    return all(len(by_head.values(row, split, metric)) == results.rows[row].expected for row in rows)
