"""How far each loss is behind the best one of its column, and whether examples can tell them apart."""

from __future__ import annotations

from mlcl.records.outline import NO_ENCODER
from mlcl.reporting.bootstrap import AgainstBest, against_best
from mlcl.reporting.metric_info import metric_info
from mlcl.reporting.ranking import primary_metric
from mlcl.reporting.results import Results
from mlcl.reporting.statistics.examples import RESAMPLES
from mlcl.reporting.tables.table import Cell, Column, Number, Row, Table, Text


def differences_table(results: Results) -> Table | None:
    """None where there is nothing to compare, or the scores are not here."""
    outline, metric = results.outline, metric_info(primary_metric(results))
    found = against_best(results)
    if not found:
        return None

    def cell(own: AgainstBest, loss: str) -> Cell:
        if loss == own.best:
            return Text("best")
        if loss not in own.differences:
            return Text()
        gap = own.differences[loss]
        seeds = len(outline.seeds)
        return Number(
            gap.value,
            None,
            seeds,
            seeds,
            metric.scale,
            metric.decimals,
            signed=True,
            interval=(gap.low, gap.high),
        )

    def header(dataset: str, encoder: str) -> str:
        return outline.datasets[dataset].title + ("" if encoder == NO_ENCODER else f" ({encoder})")

    rows = tuple(
        Row((outline.title_of(loss),), (loss,), tuple(cell(own, loss) for own in found.values()))
        for loss in outline.losses
    )
    examples = "validation examples" if outline.split == "val" else "test examples"
    points = "percentage points" if metric.is_percentage else "units of the metric"
    return Table(
        name="differences",
        label=f"tab:{outline.study}-differences",
        caption=(
            f"{outline.title.rstrip('.')}. Difference of each loss to the best of its column in {metric.title} (in "
            f"{points}), mean over seeds, with the 95 % percentile interval of a paired bootstrap over {examples} "
            f"({RESAMPLES:,} resamples, not adjusted for their number). An interval that contains 0: the {examples} "
            f"do not tell the two apart."
        ),
        stubs=("Loss",),
        levels=("dataset",),
        columns=tuple(Column((header(*column),), ("/".join(column),)) for column in found),
        blocks=(rows,),
    )
