"""Which loss should I use? The answer of a study in a paragraph, each sentence of it from numbers."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean

from mlcl.reporting.cost_means import mean_costs
from mlcl.reporting.figures.style import column_title
from mlcl.reporting.metric_info import MetricInfo, metric_info
from mlcl.reporting.ranking import (
    Column,
    chance_to_win,
    compare_losses,
    complete_means,
    mean_over_datasets,
    note_on_encoders,
    primary_metric,
    runs_of,
)
from mlcl.reporting.results import Results
from mlcl.reporting.statistics import ALPHA, FEWEST_DATASETS
from mlcl.reporting.statistics.datasets import Comparison
from mlcl.reporting.statistics.seeds import contrast

MANY_LABELS = 100
FEW_LABELS = 20
MOST_NAMED = 4
CLOSE = 0.01
"""A loss within one percentage point of the best one is close to it."""
Means = dict[str, dict[Column, float]]


def overview(results: Results) -> str:
    """The paragraph; says so where there is too little to answer from."""
    metric = metric_info(primary_metric(results))
    means = complete_means(results, metric.name)
    if len(means) < 2:
        return "Fewer than two losses have all their seeds on any dataset: there is nothing to compare yet."
    comparison = compare_losses(results, metric.name)
    if comparison is not None and len(comparison.datasets) >= FEWEST_DATASETS:
        sentences = [*_by_ranks(results, metric, comparison, means), *_by_labels(results, metric, means)]
        if len(results.outline.seeds) == 1:
            sentences.append("Each cell ran with one seed: how much seeds differ is not known.")
    else:
        sentences = list(_by_dataset(results, metric, means))
    return " ".join([*sentences, *_by_cost(results, metric, means)])


def _by_ranks(results: Results, metric: MetricInfo, found: Comparison, means: Means) -> Iterator[str]:
    title = results.outline.title_of
    first, second = found.order[:2]
    yield (
        f"Judged by {metric.title} over {len(found.datasets)} datasets, use {title(first)}: it has the best mean rank "
        f"({found.ranks[first]:.1f} of {len(found.methods)}), then {title(second)} ({found.ranks[second]:.1f})."
        f"{note_on_encoders(results.outline)}"
    )
    if found.p_value is None or found.p_value >= ALPHA:
        p = "" if found.p_value is None else f" (p = {found.p_value:.2g})"
        yield f"Friedman's test does not tell the losses apart{p}, so take this as a tendency."
    else:
        close = [
            m for m in found.order[1:] if found.ranks[m] - found.ranks[first] <= found.critical_difference
        ]
        yield f"The losses do differ (Friedman, p = {found.p_value:.2g}){_alike([title(m) for m in close], found)}."
    if len(results.outline.seeds) > 1:
        chance = chance_to_win(results, first, second, metric.name)
        yield f"A run of {title(first)} beats one of {title(second)} with probability {chance:.2f}, on average."


def _alike(close: list[str], found: Comparison) -> str:
    """What Nemenyi's test does not tell from the best."""
    if not close:
        return ", and Nemenyi's test tells it from all others"
    if len(close) == len(found.methods) - 1:
        return ", but Nemenyi's test tells none of the others from it, so take this as a tendency"
    if len(close) > MOST_NAMED:
        others = f"{', '.join(close[:MOST_NAMED])} and {len(close) - MOST_NAMED} more"
        return f"; Nemenyi's test does not tell {others} from it"
    return f"; Nemenyi's test does not tell {_listed(close)} from it"


def _by_labels(results: Results, metric: MetricInfo, means: Means) -> Iterator[str]:
    """Where the number of labels changes the answer."""
    sizes = {column: results.labels_of(column[0]) for own in means.values() for column in own}
    parts = {
        f"more than {MANY_LABELS} labels": [c for c, n in sizes.items() if n is not None and n > MANY_LABELS],
        f"at most {FEW_LABELS} labels": [c for c, n in sizes.items() if n is not None and n <= FEW_LABELS],
    }
    told = []
    for words, columns in parts.items():
        by_dataset: dict[str, list[Column]] = {}
        for column in columns:
            by_dataset.setdefault(column[0], []).append(column)
        averages = {
            loss: mean_over_datasets(by_dataset, own.__getitem__)
            for loss, own in means.items()
            if columns and all(column in own for column in columns)
        }
        if len(averages) > 1:
            best, second = _in_order(averages, metric)[:2]
            title = results.outline.title_of
            count = f"{len(by_dataset)} dataset{'s' * (len(by_dataset) > 1)}"
            told.append(
                f"with {words} ({count}), {title(best)} is best{' on average' * (len(columns) > 1)} "
                f"({averages[best] * metric.scale:.{metric.decimals}f}, then {title(second)} with "
                f"{averages[second] * metric.scale:.{metric.decimals}f})"
            )
    if told:
        text = "; ".join(told)
        yield f"{text[0].upper()}{text[1:]}."


def _by_dataset(results: Results, metric: MetricInfo, means: Means) -> Iterator[str]:
    outline = results.outline
    for column in outline.columns():
        own = {loss: values[column] for loss, values in means.items() if column in values}
        if len(own) < 2:
            continue
        first, second = _in_order(own, metric)[:2]
        sign = 1 if metric.higher_is_better else -1
        runs = [runs_of(results, column, loss, metric.name) for loss in (first, second)]
        gap = contrast([(sign, runs[0]), (-sign, runs[1])]).scaled(metric.scale)
        sure = "within seed noise"
        if not gap.is_known:
            sure = "one seed each, so seed noise is unknown"
        elif gap.low > 0:
            sure = "clear of seed noise"
        unit = " points" if metric.is_percentage else ""
        yield (
            f"On {column_title(outline, *column)}, use {outline.title_of(first)}: its {metric.title} is "
            f"{own[first] * metric.scale:.{metric.decimals}f}, {gap.value:.{metric.decimals}f}{unit} better than "
            f"that of {outline.title_of(second)}, the next ({sure})."
        )


def _by_cost(results: Results, metric: MetricInfo, means: Means) -> Iterator[str]:
    """The cheapest loss that is close to the best on average, if it is another one and notably cheaper."""
    columns = [column for column in results.outline.columns() if all(column in own for own in means.values())]
    times = mean_costs(results, "wall_seconds")
    if not columns:
        return
    averages = {loss: fmean(own[column] for column in columns) for loss, own in means.items()}
    seconds = {
        loss: fmean(times[*column, loss, "base"] for column in columns)
        for loss in means
        if all((*column, loss, "base") in times for column in columns)
    }
    best = _in_order(averages, metric)[0]
    close = [loss for loss in seconds if abs(averages[loss] - averages[best]) * metric.scale <= CLOSE * 100]
    if best not in seconds or not metric.is_percentage:
        return
    cheapest = min(close, key=seconds.__getitem__)
    if seconds[cheapest] < 0.9 * seconds[best]:
        title = results.outline.title_of
        yield (
            f"Where time matters, {title(cheapest)} is within a point of {title(best)} on average and takes "
            f"{100 * seconds[cheapest] / seconds[best]:.0f} % of its time."
        )


def _in_order(values: dict[str, float], metric: MetricInfo) -> list[str]:
    return sorted(values, key=values.__getitem__, reverse=metric.higher_is_better)


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
