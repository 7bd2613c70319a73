"""Losses ranked over the datasets of a study.

Tests of ranks need independent blocks, and the encoders of one dataset are not independent: each dataset is one block,
in which a loss has its mean over the encoders.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import TypeVar

from mlcl.records.outline import Outline
from mlcl.reporting.metric_info import metric_info
from mlcl.reporting.results import Results
from mlcl.reporting.statistics.datasets import Ranking, probability_of_improvement, rank_methods

PREFERRED = ("macro_f1", "map", "micro_f1")
Key = TypeVar("Key")
Column = tuple[str, str]
"""Dataset and encoder."""


def primary_metric(results: Results) -> str:
    """What losses are judged by: of the metrics that the study's table shows macro-F1, else mAP, micro-F1, the first.

    Decisions are judged at thresholds tuned on validation, as `mlcl predict` makes them, where the records have such
    a metric.
    """
    shown = results.outline.metrics
    metric = next((metric for metric in PREFERRED if metric in shown), shown[0])
    in_split = results.metrics[results.metrics["split"] == results.outline.split]
    counts = in_split["metric"].value_counts()
    tuned = f"{metric}_tuned"
    return tuned if counts.get(tuned, 0) == counts.get(metric, 0) > 0 else metric


def complete_means(results: Results, metric: str, variant: str = "base") -> dict[str, dict[Column, float]]:
    """loss -> column -> mean over seeds, where all seeds are there; losses without any are left out."""
    outline = results.outline
    result: dict[str, dict[Column, float]] = {}
    for loss in outline.losses:
        means = {
            column: summary[0]
            for column in outline.columns()
            if (row := (*column, loss, variant)) in results.rows
            and results.rows[row].complete
            and (summary := results.mean_sd_n(row, outline.split, metric))
        }
        if means:
            result[loss] = means
    return result


def best_first(means: Mapping[Key, float], higher_is_better: bool) -> list[Key]:
    """In the order of their means; of equals the one that stands first."""
    return sorted(means, key=means.__getitem__, reverse=higher_is_better)


def compared_columns(means: Mapping[str, Mapping[Column, float]]) -> dict[str, list[Column]]:
    """dataset -> its columns on which every loss is complete; a dataset without one is left out."""
    result: dict[str, list[Column]] = {}
    for column in next(iter(means.values()), {}):
        if all(column in by_column for by_column in means.values()):
            result.setdefault(column[0], []).append(column)
    return result


def mean_over_datasets(columns: Mapping[str, Sequence[Column]], value: Callable[[Column], float]) -> float:
    """The mean over datasets of the mean over the columns of each."""
    return fmean(fmean(value(column) for column in encoders) for encoders in columns.values())


def rank_losses(results: Results, metric: str) -> Ranking | None:
    """Ranks and tests over the datasets on which losses can be compared; None where there are none."""
    means = complete_means(results, metric)
    columns = compared_columns(means)
    of_datasets = {
        loss: {dataset: fmean(by_column[column] for column in columns[dataset]) for dataset in columns}
        for loss, by_column in means.items()
    }
    return rank_methods(of_datasets, metric_info(metric).higher_is_better)


def chance_to_win(results: Results, loss: str, other: str, metric: str) -> float:
    """P(a run of `loss` is better than one of `other`), over the datasets of `rank_losses`; there must be one."""
    higher = metric_info(metric).higher_is_better

    def chance(column: Column) -> float:
        runs, other_runs = (runs_of(results, column, name, metric) for name in (loss, other))
        return probability_of_improvement(runs, other_runs, higher)

    return mean_over_datasets(compared_columns(complete_means(results, metric)), chance)


def runs_of(results: Results, column: Column, loss: str, metric: str) -> list[float]:
    """The value of each seed."""
    return list(results.values((*column, loss, "base"), results.outline.split, metric).values())


def note_on_encoders(outline: Outline) -> str:
    """A sentence for captions, after a space; nothing where no dataset has several encoders."""
    columns = outline.columns()
    if len({dataset for dataset, _ in columns}) == len(columns):
        return ""
    return (
        " A dataset with several encoders counts once: with the mean over those encoders on which all losses are "
        "complete."
    )
