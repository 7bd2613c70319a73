"""The loss with the best mean rank against each other one, over datasets: difference, test, chance, effect."""

from __future__ import annotations

from mlcl.reporting.metric_info import MetricInfo, metric_info
from mlcl.reporting.ranking import (
    chance_to_win,
    compared_columns,
    complete_means,
    mean_over_datasets,
    note_on_encoders,
    primary_metric,
    rank_losses,
    runs_of,
)
from mlcl.reporting.results import Results
from mlcl.reporting.statistics import FEWEST_DATASETS
from mlcl.reporting.statistics.datasets import Ranking
from mlcl.reporting.statistics.seeds import cliffs_delta
from mlcl.reporting.tables.table import Cell, Column, Number, Row, Table, Text

PARTS = ("mean rank", "difference", "Wilcoxon-Holm p", "chance to win", "Cliff's delta")


def best_against_each_table(results: Results) -> Table | None:
    """None with fewer datasets than a test of ranks needs."""
    metric = metric_info(primary_metric(results))
    ranking = rank_losses(results, metric.name)
    if ranking is None or len(ranking.datasets) < FEWEST_DATASETS:
        return None
    best = ranking.order[0]
    title = results.outline.title_of
    rows = tuple(
        Row((title(loss),), (loss,), _cells(results, metric, ranking, best, loss)) for loss in ranking.order
    )
    return Table(
        name="best-against-each",
        label=f"tab:{results.outline.study}-best-against-each",
        caption=(
            f"{results.outline.title.rstrip('.')}. The best by mean rank in {metric.title} over "
            f"{len(ranking.datasets)} datasets, {title(best)}, against each other loss: the mean difference; "
            f"Wilcoxon's signed-rank "
            f"test over datasets, adjusted by Holm for all pairs of losses; the probability that a run of the other "
            f"loss beats one of {title(best)}, and Cliff's delta of its runs (-1: always worse), both averaged over "
            f"datasets.{note_on_encoders(results.outline)}"
        ),
        stubs=("Loss",),
        levels=("part",),
        columns=tuple(Column((part,), (part.replace(" ", "_"),)) for part in PARTS),
        blocks=(rows,),
    )


def _cells(results: Results, metric: MetricInfo, ranking: Ranking, best: str, loss: str) -> tuple[Cell, ...]:
    n = len(ranking.datasets)

    def number(value: float, scale: float, decimals: int, signed: bool = False) -> Number:
        return Number(value, None, n, n, scale, decimals, signed=signed)

    rank = number(ranking.ranks[loss], 1.0, 2)
    if loss == best:
        return rank, Text("best"), Text(), Text(), Text()
    means = complete_means(results, metric.name)
    columns = compared_columns(means)
    gap = mean_over_datasets(columns, lambda column: means[loss][column] - means[best][column])
    p = ranking.wilcoxon.get((best, loss), ranking.wilcoxon.get((loss, best), 1.0))
    sign = 1 if metric.higher_is_better else -1
    delta = sign * mean_over_datasets(
        columns,
        lambda column: cliffs_delta(*(runs_of(results, column, name, metric.name) for name in (loss, best))),
    )
    return (
        rank,
        number(gap, metric.scale, metric.decimals, signed=True),
        number(p, 1.0, 3),
        number(chance_to_win(results, loss, best, metric.name), 1.0, 2),
        number(delta, 1.0, 2, signed=True),
    )
