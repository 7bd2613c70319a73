"""Losses compared over all columns (dataset, encoder) of a study."""

from __future__ import annotations

from collections.abc import Mapping

from mlcl.reporting.metric_info import metric_info
from mlcl.reporting.results import Results
from mlcl.reporting.statistics.datasets import Comparison, compare

PREFERRED = ("macro_f1", "map", "micro_f1")
Column = tuple[str, str]


def primary_metric(results: Results) -> str:
    """What the overview goes by: macro-F1, which the papers' claims are about, if the study's table shows it."""
    shown = results.outline.metrics
    return next((metric for metric in PREFERRED if metric in shown), shown[0])


def complete_means(results: Results, metric: str, variant: str = "base") -> dict[str, dict[Column, float]]:
    """loss -> column -> mean over seeds, where all seeds are there; losses without any are left out."""
    outline = results.outline
    found: dict[str, dict[Column, float]] = {}
    for loss in outline.losses:
        means = {
            column: summary[0]
            for column in outline.columns()
            if (row := (*column, loss, variant)) in results.rows
            and results.rows[row].complete
            and (summary := results.mean_sd_n(row, outline.split, metric))
        }
        if means:
            found[loss] = means
    return found


def compare_losses(results: Results, metric: str) -> Comparison | None:
    """Ranks and tests over the columns on which every loss is complete; None where there is nothing to compare."""
    means: Mapping[str, Mapping[str, float]] = {
        loss: {"/".join(column): value for column, value in own.items()}
        for loss, own in complete_means(results, metric).items()
    }
    return compare(means, metric_info(metric).higher_is_better)


def runs_of(results: Results, loss: str, metric: str) -> dict[str, list[float]]:
    """column -> the value of each seed, where all are there."""
    columns = complete_means(results, metric).get(loss, {})
    split = results.outline.split
    return {
        "/".join(column): list(results.values((*column, loss, "base"), split, metric).values())
        for column in columns
    }
