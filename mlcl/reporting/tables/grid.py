"""The two tables of a study's grid: `main` (rows: losses and baselines) and `variants` (variant x loss)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from mlcl.records.outline import NO_ENCODER, Outline
from mlcl.reporting.budgets import selection_rule
from mlcl.reporting.metric_info import MetricInfo, metric_info
from mlcl.reporting.results import Results, RowKey
from mlcl.reporting.tables.table import Cell, Column, Notes, Number, Row, Table, Text, with_marks

RowPlan = tuple[tuple[str, ...], str, str]
"""Headers, loss, variant."""
CRITERIA = ("map", "macro_f1_tuned", "macro_f1", "micro_f1_tuned", "micro_f1")
"""Ranking quality, then decisions at thresholds tuned on validation and at 0.5."""


def main_table(results: Results, name: str = "main") -> Table:
    outline = results.outline
    losses: list[RowPlan] = [((outline.title_of(name),), name, "base") for name in outline.losses]
    baselines: list[RowPlan] = [((outline.title_of(name),), name, "base") for name in outline.baselines]
    return _table(results, name, ("Loss",), [losses], baselines)


def other_readouts(results: Results) -> list[str]:
    """Those that the study has besides the one that its tables are about."""
    return [readout for readout in results.outline.readouts if readout != results.outline.readout]


def readout_table(results: Results, readout: str) -> Table:
    """The main table by another readout: `main-head`, `main-knn`."""
    return main_table(results.with_readout(readout), f"main-{readout}")


def criteria_table(results: Results) -> Table | None:
    """Ranking quality beside decisions at tuned thresholds and at 0.5; None where no threshold was tuned."""
    outline = results.outline
    there = set(results.metrics.loc[results.metrics["split"] == outline.split, "metric"])
    metrics = [metric for metric in CRITERIA if metric in there]
    if not any(metric.endswith("_tuned") for metric in metrics):
        return None
    losses: list[RowPlan] = [((outline.title_of(name),), name, "base") for name in outline.losses]
    baselines: list[RowPlan] = [((outline.title_of(name),), name, "base") for name in outline.baselines]
    return _table(results, "criteria", ("Loss",), [losses], baselines, metrics=metrics)


def variants_table(results: Results) -> Table | None:
    """None where the study has no variants."""
    outline = results.outline
    if set(outline.variants) <= {"base"}:
        return None
    blocks = [
        [
            ((variant, outline.title_of(loss)), loss, variant)
            for loss in outline.losses
            if any(
                (dataset, encoder, loss, variant) in results.rows for dataset, encoder in outline.columns()
            )
        ]
        for variant in outline.variants
    ]
    return _table(results, "variants", ("Variant", "Loss"), [block for block in blocks if block], [])


def dataset_table(results: Results, dataset: str) -> Table:
    """Every metric that the base rows of a dataset have on the table's split, for the report."""
    outline = results.outline
    dataset_metrics = results.metrics[
        (results.metrics["dataset"] == dataset) & (results.metrics["split"] == outline.split)
    ]
    metrics = list(dict.fromkeys([*outline.metrics, *dataset_metrics["metric"].unique().tolist()]))
    columns = [column for column in outline.columns() if column[0] == dataset]
    losses: list[RowPlan] = [((outline.title_of(name),), name, "base") for name in outline.losses]
    baselines: list[RowPlan] = [((outline.title_of(name),), name, "base") for name in outline.baselines]
    return _table(results, f"dataset-{dataset}", ("Loss",), [losses], baselines, columns, metrics)


def _table(
    results: Results,
    name: str,
    stubs: tuple[str, ...],
    competing: Sequence[Sequence[RowPlan]],
    baselines: Sequence[RowPlan],
    columns_of: Sequence[tuple[str, str]] | None = None,
    metrics: Sequence[str] | None = None,
) -> Table:
    """Blocks of rows that compete with one another, and a last one of baselines, which do not.

    Shows all columns (dataset, encoder) and the metrics of the study's table, if nothing else is said."""
    outline, notes = results.outline, Notes()
    keys = [
        (dataset, encoder, metric_info(metric))
        for dataset, encoder in columns_of or outline.columns()
        for metric in metrics or outline.metrics
    ]
    blocks = []
    for block in [*competing, *([baselines] if baselines else [])]:
        columns = [_column(results, notes, key, block, block is not baselines) for key in keys]
        blocks.append(
            tuple(
                Row(headers, _row_key(loss, variant, len(stubs)), tuple(column[i] for column in columns))
                for i, (headers, loss, variant) in enumerate(block)
            )
        )
    return Table(
        name=name,
        label=f"tab:{outline.study}-{name}",
        caption=_caption(results, name, bool(baselines), metrics or outline.metrics),
        beside="The table of differences says which can be told apart." if len(outline.seeds) > 1 else "",
        stubs=stubs,
        levels=("dataset", "encoder", "metric"),
        columns=tuple(_headers(outline, *key) for key in keys),
        blocks=tuple(block for block in blocks if block),
        notes=tuple(notes.texts),
    )


def _row_key(loss: str, variant: str, stubs: int) -> tuple[str, ...]:
    return (variant, loss)[-stubs:]


def _headers(outline: Outline, dataset: str, encoder: str, metric: MetricInfo) -> Column:
    """A dataset's only encoder stands beside its name, several below it."""
    encoders = [e for d, e in outline.columns() if d == dataset]
    group = outline.datasets[dataset].title
    second = encoder
    if len(encoders) == 1:
        group, second = (group if encoder == NO_ENCODER else f"{group} ({encoder})"), ""
    return Column((group, second, f"{metric.title} {metric.arrow}"), (dataset, encoder, metric.name))


def _column(
    results: Results, notes: Notes, key: tuple[str, str, MetricInfo], plans: Sequence[RowPlan], compete: bool
) -> list[Cell]:
    dataset, encoder, metric = key
    rows = [results.row_for(dataset, encoder, loss, variant) for _, loss, variant in plans]
    cells = [_cell(results, notes, metric, row) for row in rows]
    if compete:
        cells = [
            _below_controls(results, notes, key, cell) if variant == "base" else cell
            for cell, (_, _, variant) in zip(cells, plans, strict=True)
        ]
    competes = [compete and row is not None and results.rows[row].complete for row in rows]
    return with_marks(cells, competes, metric.higher_is_better)


def _cell(results: Results, notes: Notes, metric: MetricInfo, row: RowKey | None) -> Cell:
    if row is None:
        return Text(notes=(notes.refer("not part of this study"),))
    state = results.rows[row]
    summary = results.mean_sd_n(row, results.outline.split, metric.name)
    own_notes = notes.on(state)
    if summary is None:
        if state.ok:
            own_notes = (*own_notes, notes.refer(_why_absent(results, metric, row)))
        return Text(notes=own_notes)
    mean, sd, n = summary
    spread = sd if n > 1 else None
    return Number(mean, spread, n, state.expected, metric.scale, metric.decimals, notes=own_notes)


def _why_absent(results: Results, metric: MetricInfo, row: RowKey) -> str:
    """Why records that went well do not have a metric."""
    if metric.is_of_embeddings:
        if row[1] == NO_ENCODER:
            return f"has no embeddings, of which {metric.title} is a metric"
        return f"the records have no {metric.title}: it needs the study key keep_embeddings: true"
    if not results.has_readout(row):
        return f"has no such readout: {results.outline.readout}"
    if results.kept:
        return f"the kept results have no {metric.title}"
    return f"the records have no {metric.title}; 'mlcl evaluate {results.outline.file}' scores them anew"


def _below_controls(results: Results, notes: Notes, key: tuple[str, str, MetricInfo], cell: Cell) -> Cell:
    """The cell, with a note if a control row has a better mean."""
    if not isinstance(cell, Number):
        return cell
    dataset, encoder, metric = key
    outline = results.outline
    above = []
    for baseline in outline.baselines:
        row = results.row_for(dataset, encoder, baseline)
        summary = results.mean_sd_n(row, outline.split, metric.name) if row else None
        if summary is not None and metric.better(summary[0], cell.value):
            above.append(outline.title_of(baseline))
    if not above:
        return cell
    return replace(cell, notes=(*cell.notes, notes.refer(f"below the control row {' and '.join(above)}")))


def _caption(results: Results, name: str, has_baselines: bool, metrics: Sequence[str]) -> str:
    outline = results.outline
    n = len(outline.seeds)
    infos = [metric_info(metric) for metric in metrics]
    seeds = f"mean ± standard deviation (ddof 1) over {n} seeds" if n > 1 else "one seed"
    plain = [info.title for info in infos if not info.is_percentage]
    unit = "in %" + (f" (but for {', '.join(plain)})" if plain else "") if len(plain) < len(infos) else ""
    baselines = "; the baselines below the rule take no part" if has_baselines else ""
    scope = " of each variant" if name == "variants" else ""
    return " ".join(
        [
            f"{outline.title.rstrip('.')}.",
            *(
                ["Ranking quality beside decisions at tuned thresholds and at 0.5."]
                if name == "criteria"
                else []
            ),
            ", ".join(part for part in (f"{outline.split.capitalize()} split", seeds, unit) if part) + ".",
            f"Best mean of the complete rows{scope} in bold, second underlined{baselines}; "
            + (
                "two means may also differ by chance."
                if n > 1
                else "with one seed that may be chance, and none can be told apart."
            ),
            selection_rule(outline, metrics),
            *_mixed_versions(results.provenance.get("torch", {})),
        ]
    )


def _mixed_versions(versions: Mapping[str, int]) -> list[str]:
    """A sentence for the caption where the records were not all made with one version of torch."""
    if len(versions) < 2:
        return []
    listed = ", ".join(f"{version} ({count})" for version, count in versions.items())
    return [f"The records were made with different versions of torch: {listed}."]
