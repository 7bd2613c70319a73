"""A paper's numbers beside ours: reported, reproduced, difference, and whether they agree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mlcl.evaluation.readouts import OWN, in_words
from mlcl.records.outline import NO_ENCODER, DatasetOutline, Outline
from mlcl.reporting.metric_info import MetricInfo, metric_info
from mlcl.reporting.results import Results, RowKey
from mlcl.reporting.specs import PaperSpec, ReportedNumber, read_papers
from mlcl.reporting.statistics.seeds import Estimate, mean_interval
from mlcl.reporting.tables.table import Cell, Column, Notes, Number, Row, Table, Text

PARTS = ("reported", "reproduced", "difference", "agreement")
Place = tuple[str, str, str, str]
"""dataset, encoder, loss, metric: the keys of a spec."""


def paper_tables(results: Results) -> Iterator[Table]:
    """One table for each paper that shares a dataset with the study."""
    for stem, (spec, numbers) in read_papers(results.paths.specs).items():
        if any(_datasets_named(named.names, results.outline) for named in spec.datasets.values()):
            yield paper_table(stem, spec, numbers, results)


def paper_table(stem: str, spec: PaperSpec, numbers: list[ReportedNumber], results: Results) -> Table:
    """Rows with a number on either side; the caption counts the places that have neither.

    A place is filled by a row of the study with the right dataset, settings of it (such as the split) and encoder;
    where there is only another one, it stays empty and says why.
    """
    results = results.with_readout(OWN)
    reported = {(n.dataset, n.encoder, n.loss, n.metric): n for n in numbers if n.value is not None}
    notes = Notes()
    blocks, empty, reasons = [], 0, dict[str, None]()
    for dataset in spec.datasets:
        rows = []
        for place in _places(spec, dataset):
            row, reason = _find_row(spec, place, results)
            if reason:
                reasons[f"{spec.datasets[dataset].title}: {reason}"] = None
            if place not in reported and row is None:
                empty += 1
            else:
                rows.append(_row(spec, place, reported.get(place), row, reason, results, notes))
        blocks.append(tuple(rows))
    remark = f" {empty} combinations are neither reported nor in this study, and left out." if empty else ""
    if reasons:
        remark += f" Not compared: {'; '.join(reasons)}."
    return Table(
        name=f"paper-{stem}",
        label=spec.label,
        caption=(
            f"{spec.caption.rstrip('.')}. Source: {spec.source}. Reproduced: mean over seeds on the test split with "
            f"the half width of its 95 % t-interval, in the study “{results.outline.title}”; a reported number agrees "
            f"if it lies within the interval. Readout: {in_words(OWN)}.{remark}"
        ),
        stubs=("Dataset", "Encoder", "Metric", "Loss"),
        levels=("part",),
        columns=tuple(Column((part,), (part,)) for part in PARTS),
        blocks=tuple(block for block in blocks if block),
        notes=tuple(notes.texts),
    )


def _places(spec: PaperSpec, dataset: str) -> Iterator[Place]:
    for encoder in spec.encoders:
        for metric in spec.metrics:
            for loss in spec.losses:
                yield dataset, encoder, loss, metric


def _find_row(spec: PaperSpec, place: Place, results: Results) -> tuple[RowKey | None, str]:
    """The study's row for a place; otherwise None, and why a row of another split or encoder does not count."""
    dataset, encoder, loss, _ = place
    wanted, wanted_encoder, outline = spec.datasets[dataset], spec.encoders[encoder], results.outline
    reason = ""
    for found in _datasets_named(wanted.names, outline):
        encoders = [e for e in outline.encoders.values() if (e.encoder or e.name) in wanted_encoder.names]
        rows = {
            (found.name, e, name, "base"): encoder_settings
            for e, encoder_settings in [*((e.name, e.settings) for e in encoders), (NO_ENCODER, None)]
            for name in spec.losses[loss].names
        }
        for row, encoder_settings in rows.items():
            if row not in results.rows:
                continue
            differences = [
                _difference(wanted.settings | wanted_encoder.dataset_settings, found.settings),
                "" if encoder_settings is None else _difference(wanted_encoder.settings, encoder_settings),
                f"{found.fraction:g} of the training rows" if found.fraction != 1 else "",
            ]
            if not any(differences):
                return row, ""
            reason = reason or f"{found.name} has {', '.join(filter(None, differences))}"
        other = next(
            (key[1] for key in results.rows if key[0] == found.name and key[2] in spec.losses[loss].names), ""
        )
        if other and not any(row in results.rows for row in rows):
            reason = reason or f"{found.name} has the encoder {other}"
    return None, reason


def _datasets_named(names: list[str], outline: Outline) -> list[DatasetOutline]:
    """The study's datasets that are made of one of these sources."""
    return [dataset for dataset in outline.datasets.values() if (dataset.source or dataset.name) in names]


def _difference(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """The settings that are not as wanted, in words."""
    return ", ".join(
        f"{key} {found.get(key)} in place of {value}"
        for key, value in wanted.items()
        if found.get(key) != value
    )


def _row(
    spec: PaperSpec,
    place: Place,
    reported: ReportedNumber | None,
    row: RowKey | None,
    reason: str,
    results: Results,
    notes: Notes,
) -> Row:
    dataset, encoder, loss, metric = place
    info = metric_info(metric)
    ours = _reproduced(row, info, results)
    estimate, n = ours if ours else (None, 0)
    expected = results.rows[row].expected if row else 0
    own_notes = notes.on(results.rows[row]) if row else ()
    difference: Cell = Text()
    if reported is not None and reported.value is not None and estimate is not None:
        gap = estimate.value - reported.value
        difference = Number(gap, None, n, expected, info.scale, info.decimals, signed=True)
    cells = (
        _reported_cell(reported, info, notes),
        Text(f"not run: {reason}" if reason else "not run")
        if estimate is None
        else _number(estimate, n, expected, info, own_notes),
        difference,
        Text(agreement(reported, estimate)),
    )
    titles = (spec.datasets[dataset].title, spec.encoders[encoder].title, info.title, spec.losses[loss].title)
    return Row(titles, (dataset, encoder, metric, loss), cells)


def agreement(reported: ReportedNumber | None, estimate: Estimate | None) -> str:
    """The mark of a row."""
    if reported is None or reported.value is None:
        return "not reported"
    if estimate is None:
        return "not run"
    if not estimate.is_known:
        return "no interval"
    return "within" if estimate.low <= reported.value <= estimate.high else "outside"


def _reproduced(row: RowKey | None, info: MetricInfo, results: Results) -> tuple[Estimate, int] | None:
    values = list(results.values(row, "test", info.name).values()) if row else []
    return (mean_interval(values), len(values)) if values else None


def _reported_cell(reported: ReportedNumber | None, info: MetricInfo, notes: Notes) -> Cell:
    if reported is None or reported.value is None:
        return Text()
    marks = (notes.refer(reported.note),) if reported.note else ()
    return Number(reported.value, reported.spread, 1, 1, info.scale, info.decimals, notes=marks)


def _number(estimate: Estimate, n: int, expected: int, info: MetricInfo, notes: tuple[int, ...]) -> Number:
    spread = estimate.half_width if estimate.is_known else None
    return Number(estimate.value, spread, n, expected, info.scale, info.decimals, notes=notes)
