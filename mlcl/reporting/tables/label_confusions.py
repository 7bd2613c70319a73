"""The pairs of labels that the best loss of a dataset confuses most often."""

from __future__ import annotations

from mlcl.records.outline import Outline
from mlcl.reporting.label_results import LabelConfusion, label_confusion
from mlcl.reporting.results import Results
from mlcl.reporting.tables.table import Column, Number, Row, Table

COLUMNS = (("share of rows in %", "share"), ("rows", "rows"), ("rows with the label", "positives"))


def label_confusions_table(results: Results, dataset: str) -> Table | None:
    """Rows: pairs, the most frequent first. None where no pair is confused in one row a seed or more."""
    confusion = label_confusion(results, dataset)
    if confusion is None or not (pairs := confusion.most_confused()):
        return None
    n = confusion.seeds

    def number(value: float, scale: float = 1.0) -> Number:
        return Number(value, None, n, n, scale)

    rows = tuple(
        Row(
            (confusion.labels[i], confusion.labels[j]),
            (confusion.labels[i], confusion.labels[j]),
            (
                number(confusion.shares[i, j], 100.0),
                number(confusion.shares[i, j] * confusion.positives[i] / n),
                number(confusion.positives[i] / n),
            ),
        )
        for i, j in pairs
    )
    return Table(
        name=f"label-confusions-{dataset}",
        label=f"tab:{results.outline.study}-label-confusions-{dataset}",
        caption=f"{title(results.outline, confusion)}: the pairs of labels that are confused in the most rows. "
        f"{explanation(results.outline, confusion)}",
        stubs=("Label", "Predicted instead"),
        levels=("quantity",),
        columns=tuple(Column((header,), (key,)) for header, key in COLUMNS),
        blocks=(rows,),
    )


def title(outline: Outline, confusion: LabelConfusion) -> str:
    return (
        f"{outline.datasets[confusion.dataset].title}, {confusion.encoder}, {outline.title_of(confusion.loss)} (the "
        f"best mean there)"
    )


def explanation(outline: Outline, confusion: LabelConfusion) -> str:
    """What counts as confused."""
    seeds = "one seed" if confusion.seeds == 1 else f"mean over {confusion.seeds} seeds"
    decisions = "thresholds tuned on validation" if confusion.tuned else "threshold 0.5"
    return (
        f"A row counts where its label is missed and another is predicted wrongly; where several are, in equal parts. "
        f"{outline.split.capitalize()} split, {seeds}, {decisions}."
    )
