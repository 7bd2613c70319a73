"""How far each loss is behind the best one, and whether they can be told apart."""

from __future__ import annotations

from mlcl.reporting.contrasts import Contrasts
from mlcl.reporting.ranking import note_on_encoders, primary_metric
from mlcl.reporting.results import Results
from mlcl.reporting.standings import Standing, standings
from mlcl.reporting.statistics import CONFIDENCE
from mlcl.reporting.tables.table import Cell, Column, Number, Row, Table, Text

ALL_DATASETS = "all datasets"


def differences_table(results: Results, contrasts: Contrasts) -> Table | None:
    """None where no two losses are complete on a dataset."""
    outline = results.outline
    result = standings(results, primary_metric(results), contrasts)
    if not result:
        return None

    def cell(standing: Standing, loss: str) -> Cell:
        if loss == standing.best:
            return Text("best")
        if loss not in standing.intervals:
            return Text()
        gap, metric = standing.intervals[loss], standing.metric
        return Number(
            gap.value,
            None,
            standing.seeds,
            standing.seeds,
            metric.scale,
            metric.decimals,
            signed=True,
            interval=(gap.low, gap.high) if gap.is_known else None,
        )

    rows = tuple(
        Row((outline.title_of(loss),), (loss,), tuple(cell(standing, loss) for standing in result))
        for loss in outline.losses
    )
    columns = tuple(
        Column((ALL_DATASETS if s.column is None else s.title,), ("/".join(s.column or (ALL_DATASETS,)),))
        for s in result
    )
    return Table(
        name="differences",
        label=f"tab:{outline.study}-differences",
        caption=_caption(results, result),
        stubs=("Loss",),
        levels=("dataset",),
        columns=columns,
        blocks=(rows,),
    )


def _caption(results: Results, result: list[Standing]) -> str:
    outline, metric = results.outline, result[0].metric
    examples = "validation" if outline.split == "val" else "test"
    points = "percentage points" if metric.is_percentage else "units of the metric"
    text = (
        f"{outline.title.rstrip('.')}. Difference of each loss to the best of its column in {metric.title} on the "
        f"{examples} split (in {points}), mean over seeds."
    )
    if not all(standing.is_known for standing in result):
        return f"{text} One seed: how much training runs differ is unknown, so there are no intervals."
    covers = (
        f"training anew and other {examples} examples"
        if all(standing.covers_examples for standing in result)
        else f"training anew, on these {examples} examples"
    )
    together = "all pairs of losses" + (" and all columns" if len(result) > 1 else "")
    text += (
        f" Intervals cover {covers}, and hold together for {together} with {100 * CONFIDENCE:.0f} % confidence "
        f"(studentised range; Bonferroni across columns). One that contains 0: the two cannot be told apart."
    )
    return text + (note_on_encoders(outline) if result[0].column is None else "")
