"""Which losses can be told apart: the best loss of each column and of the mean over datasets, and how far the others
are behind, with simultaneous intervals. Tables and sentences both take their intervals from here.

A column is a dataset with an encoder. The intervals hold together with probability CONFIDENCE for all pairs of losses
and all columns of the page: within a column by the studentised range, across columns by Bonferroni's rule. So a study
in which all losses are equal names a winner in at most 5 % of its repetitions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from mlcl.reporting.contrasts import Contrasts, Term
from mlcl.reporting.metric_info import MetricInfo, metric_info
from mlcl.reporting.ranking import Column, best_first, compared_columns, complete_means
from mlcl.reporting.results import Results, RowKey
from mlcl.reporting.statistics import ALPHA
from mlcl.reporting.statistics.contrast import Contrast
from mlcl.reporting.statistics.seeds import Estimate


@dataclass(frozen=True)
class Standing:
    """Losses compared on one column, or on the mean over datasets (`column` None).

    `means`: loss -> mean over seeds (and datasets). `gaps`: loss -> its mean less that of the best loss, in the
    metric's own units; `intervals`: simultaneous ones of the gaps, infinite where there is one seed.
    """

    column: Column | None
    title: str
    metric: MetricInfo
    datasets: tuple[str, ...]
    seeds: int
    means: Mapping[str, float]
    gaps: Mapping[str, Contrast]
    intervals: Mapping[str, Estimate]
    confidence: float
    weights: Mapping[Column, float]
    """column -> its weight in the mean."""

    @property
    def order(self) -> list[str]:
        """Best first."""
        return best_first(self.means, self.metric.higher_is_better)

    @property
    def best(self) -> str:
        return self.order[0]

    @property
    def is_known(self) -> bool:
        """Whether there is an interval at all: two seeds or more."""
        return all(interval.is_known for interval in self.intervals.values())

    @property
    def covers_examples(self) -> bool:
        return all(gap.covers_examples for gap in self.gaps.values())

    @property
    def apart(self) -> list[str]:
        """The losses that the best one can be told from, in order."""
        return [loss for loss in self.order[1:] if self.is_apart(loss)]

    @property
    def tied(self) -> list[str]:
        """The losses that the best one cannot be told from, in order, without the best."""
        return [loss for loss in self.order[1:] if not self.is_apart(loss)]

    def is_apart(self, loss: str) -> bool:
        interval = self.intervals[loss]
        return self.metric.is_visible(interval.value) and not interval.low <= 0 <= interval.high


@dataclass(frozen=True)
class Lead:
    """How far the best loss is ahead of a baseline, in the metric's own units and positive in favour of the loss."""

    interval: Estimate
    covers_examples: bool


@dataclass(frozen=True)
class Family:
    """What holds together: intervals of all pairs among so many losses, with this confidence in each column."""

    confidence: float
    losses: int


def standings(
    results: Results,
    metric: str,
    contrasts: Contrasts,
    left_out: Mapping[Column, Collection[str]] | None = None,
) -> list[Standing]:
    """The mean over datasets first, if there are several, then each column with two complete losses or more.

    `left_out`: losses that are not compared on a column, nor in the mean. The intervals of the others stay as they are.
    """
    left_out = left_out or {}
    means = complete_means(results, metric)
    columns = {
        column: [loss for loss, by_column in means.items() if column in by_column]
        for column in results.outline.columns()
    }
    columns = {column: losses for column, losses in columns.items() if len(losses) > 1}
    shared = compared_columns(means) if len(means) > 1 else {}
    families = len(columns) + (len(shared) > 1)
    confidence = 1 - ALPHA / max(families, 1)

    def one(
        column: Column | None, title: str, everyone: Sequence[str], weights: Mapping[Column, float]
    ) -> Standing | None:
        losses = [loss for loss in everyone if not any(loss in left_out.get(c, ()) for c in weights)]
        if len(losses) < 2:
            return None
        family = Family(confidence, len(everyone))
        return compare(results, metric, contrasts, weights, losses, family, column=column, title=title)

    result = []
    if len(shared) > 1:
        weights = equal_weights([column for encoders in shared.values() for column in encoders])
        result.append(one(None, f"the mean over {len(shared)} datasets", list(means), weights))
    result += [
        one(column, results.outline.column_title(*column), losses, {column: 1.0})
        for column, losses in columns.items()
    ]
    return [standing for standing in result if standing is not None]


def equal_weights(columns: Sequence[Column]) -> dict[Column, float]:
    """Every dataset counts once, with the mean over its columns."""
    encoders = Counter(dataset for dataset, _ in columns)
    return {column: 1 / len(encoders) / encoders[column[0]] for column in columns}


def compare(
    results: Results,
    metric: str,
    contrasts: Contrasts,
    weights: Mapping[Column, float],
    losses: Sequence[str],
    family: Family,
    *,
    column: Column | None = None,
    title: str,
    variant: str = "base",
) -> Standing:
    """Losses compared on the weighted mean over columns; every row must be complete, and there must be two losses."""
    info, split = metric_info(metric), results.outline.split
    means = complete_means(results, metric, variant)
    scores = {loss: sum(weight * means[loss][c] for c, weight in weights.items()) for loss in losses}
    best = max(scores, key=lambda loss: scores[loss] if info.higher_is_better else -scores[loss])
    gaps = {
        loss: contrasts.of(_difference(loss, best, weights, variant), metric, split)
        for loss in losses
        if loss != best
    }
    intervals = {loss: gap.interval(family.confidence, family.losses) for loss, gap in gaps.items()}
    datasets = tuple(dict.fromkeys(dataset for dataset, _ in weights))
    seeds = len(results.outline.seeds)
    return Standing(column, title, info, datasets, seeds, scores, gaps, intervals, family.confidence, weights)


def _difference(loss: str, other: str, weights: Mapping[Column, float], variant: str) -> list[Term]:
    return [
        (sign * weight, (*column, name, variant))
        for column, weight in weights.items()
        for name, sign in ((loss, 1.0), (other, -1.0))
    ]


def controls_above(results: Results, metric: str) -> dict[str, list[str]]:
    """loss -> the baselines that have a better mean, over the columns on which the loss is complete."""
    info, outline = metric_info(metric), results.outline
    means = complete_means(results, metric)
    result: dict[str, list[str]] = {}
    for loss, by_column in means.items():
        for baseline in outline.baselines:
            pairs = []
            for column, value in by_column.items():
                row = results.row_for(*column, baseline)
                summary = results.mean_sd_n(row, outline.split, metric) if row else None
                if summary is not None:
                    pairs.append((value, summary[0]))
            if pairs and info.better(fmean(b for _, b in pairs), fmean(a for a, _ in pairs)):
                result.setdefault(loss, []).append(baseline)
    return result


def against_baselines(results: Results, contrasts: Contrasts, standing: Standing) -> dict[str, Lead]:
    """baseline -> the lead of the best loss over it; baselines with missing runs are left out.

    The intervals hold together with one another, whichever loss is best: they are as wide as those between all losses
    and baselines of the study.
    """
    outline, metric = results.outline, standing.metric
    sign = 1.0 if metric.higher_is_better else -1.0
    methods = len(outline.losses) + len(outline.baselines)
    leads = {}
    for baseline in outline.baselines:
        terms: dict[RowKey, float] = {}
        for column, weight in standing.weights.items():
            row = results.row_for(*column, baseline)
            if row is None or not results.rows[row].complete:
                break
            if len(results.values(row, outline.split, metric.name)) < results.rows[row].expected:
                break
            terms[(*column, standing.best, "base")] = sign * weight
            # A baseline without an encoder is one row beside several encoders.
            terms[row] = terms.get(row, 0.0) - sign * weight
        else:
            weighted = [(weight, row) for row, weight in terms.items()]
            gap = contrasts.of(weighted, metric.name, outline.split)
            leads[baseline] = Lead(gap.interval(standing.confidence, methods), gap.covers_examples)
    return leads
