"""The pairs of labels that the best loss of a dataset confuses most often."""

from __future__ import annotations

from mlcl.reporting.label_results import label_confusion, rule_of_confusion, title_of_confusion
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
        caption=f"{title_of_confusion(results.outline, confusion)}: the pairs of labels that are confused in the most "
        f"rows. {rule_of_confusion(results.outline, confusion)}",
        stubs=("Label", "Predicted instead"),
        levels=("quantity",),
        columns=tuple(Column((header,), (key,)) for header, key in COLUMNS),
        blocks=(rows,),
    )
