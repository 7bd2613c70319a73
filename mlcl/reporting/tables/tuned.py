"""The settings that single rows have from an earlier search (`tuned` of a study)."""

from __future__ import annotations

from mlcl.reporting.budgets import tuning_in_words
from mlcl.reporting.results import Results
from mlcl.reporting.tables.table import Column, Row, Table, Text


def tuned_table(results: Results) -> Table | None:
    """Rows: losses; for each dataset and encoder its settings. None where the study has no tuned rows."""
    outline = results.outline
    if outline.tuned is None:
        return None
    rows = outline.tuned.rows
    settings = list(dict.fromkeys(key for values in rows.values() for key in values))
    columns = [
        (dataset, encoder)
        for dataset, encoder in outline.columns()
        if any(f"{dataset}/{encoder}/{loss}" in rows for loss in outline.losses)
    ]

    def cells(loss: str) -> tuple[Text, ...]:
        own = [rows.get(f"{dataset}/{encoder}/{loss}", {}) for dataset, encoder in columns]
        return tuple(Text(f"{values[key]}" if key in values else "") for values in own for key in settings)

    return Table(
        name="tuned",
        label=f"tab:{outline.study}-tuned",
        caption=f"{outline.title.rstrip('.')}. Settings of single rows. {tuning_in_words(outline)}",
        stubs=("Loss",),
        levels=("dataset", "encoder", "setting"),
        columns=tuple(
            Column(
                (f"{outline.datasets[dataset].title} ({encoder})", key.replace("_", " ")),
                (dataset, encoder, key),
            )
            for dataset, encoder in columns
            for key in settings
        ),
        blocks=(tuple(Row((outline.title_of(loss),), (loss,), cells(loss)) for loss in outline.losses),),
        notes=(),
    )
