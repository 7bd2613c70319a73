"""The best losses of a dataset label by label: average precision, F1, precision and recall."""

from __future__ import annotations

from mlcl.reporting.label_results import TITLES, LabelScores, caption_of_scores, label_scores
from mlcl.reporting.results import Results
from mlcl.reporting.tables.table import Cell, Column, Number, Row, Table, Text


def label_scores_table(results: Results, dataset: str) -> Table | None:
    """Rows: labels by their frequency; for each measure the best losses side by side. None without results."""
    scores = label_scores(results, dataset)
    if scores is None:
        return None
    outline = results.outline
    columns = [(measure, loss) for measure in scores.means for loss in scores.losses]
    counts = [scores.evaluated] if scores.train is None else [scores.train, scores.evaluated]
    split = f"{outline.split} rows"
    stubs = ("Label", split) if scores.train is None else ("Label", "train rows", split)
    rows = tuple(
        Row(
            (label, *texts),
            (label, *texts),
            tuple(_cell(scores, measure, loss, i) for measure, loss in columns),
        )
        for i, label in enumerate(scores.labels)
        for texts in [tuple(str(numbers[i]) for numbers in counts)]
    )
    return Table(
        name=f"label-scores-{dataset}",
        label=f"tab:{outline.study}-label-scores-{dataset}",
        caption=caption_of_scores(outline, scores),
        stubs=stubs,
        levels=("measure", "loss"),
        columns=tuple(
            Column((TITLES[measure], outline.title_of(loss)), (measure, loss)) for measure, loss in columns
        ),
        blocks=(rows,),
    )


def _cell(scores: LabelScores, measure: str, loss: str, i: int) -> Cell:
    mean, spread = (float(values[measure][loss][i]) for values in (scores.means, scores.spreads))
    if mean != mean:
        return Text()
    return Number(mean, None if spread != spread else spread, scores.seeds, scores.seeds)
