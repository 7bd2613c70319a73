"""What a search chose for each loss, among how many trials, and what lies at an end of its range."""

from __future__ import annotations

from mlcl.reporting.budgets import search_in_words
from mlcl.reporting.metric_info import metric_info
from mlcl.reporting.results import Results
from mlcl.reporting.tables.table import Cell, Column, Notes, Number, Row, Table, Text


def search_table(results: Results) -> Table | None:
    """Rows: losses; for each dataset and encoder the value on validation and each setting. None without a search."""
    outline = results.outline
    search = outline.search
    if search is None:
        return None
    chosen, notes, metric = results.chosen, Notes(), metric_info(search.metric)
    settings = list(dict.fromkeys([*search.space, *(key for own in search.losses.values() for key in own)]))
    columns = [
        column for column in outline.columns() if any((*column, loss) in chosen for loss in outline.losses)
    ]

    def cells(loss: str, dataset: str, encoder: str) -> list[Cell]:
        choice = chosen.get((dataset, encoder, loss))
        if choice is None:
            return [Text(notes=(notes.refer("nothing is chosen yet"),)), *(Text() for _ in settings)]
        ends = dict(edge.split(": ") for edge in choice.edges)
        value = Number(choice.value, None, 1, 1, metric.scale, metric.decimals)
        texts = [
            Text(
                f"{choice.settings[key]}" if key in choice.settings else "",
                notes=(notes.refer(f"at the {ends[key]} end of its range"),) if key in ends else (),
            )
            for key in settings
        ]
        return [value, *texts]

    rows = tuple(
        Row(
            (outline.title_of(loss),),
            (loss,),
            tuple(cell for column in columns for cell in cells(loss, *column)),
        )
        for loss in outline.losses
    )
    headers = [
        Column((f"{outline.datasets[dataset].title} ({encoder})", title), (dataset, encoder, key))
        for dataset, encoder in columns
        for key, title in (("value", metric.title), *((key, key.replace("_", " ")) for key in settings))
    ]
    return Table(
        name="search",
        label=f"tab:{outline.study}-search",
        caption=f"{outline.title.rstrip('.')}. The chosen settings. {search_in_words(outline)}",
        stubs=("Loss",),
        levels=("dataset", "encoder", "setting"),
        columns=tuple(headers),
        blocks=(rows,),
        notes=tuple(notes.texts),
    )
