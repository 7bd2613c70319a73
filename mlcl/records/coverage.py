"""How much of a study is there, as a matrix of rows by columns; also while it runs."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass

from mlcl.records.collect import COORDINATES, is_kept, require_collected
from mlcl.records.outline import NO_ENCODER, OpenStudy, Outline
from mlcl.records.paths import CellId
from mlcl.records.status import Counts, State, cell_statuses

SYMBOLS = {"diverged": "d", "oom": "m", "error": "e", "missing": ".", "stale": "o"}
"""Printed after a count, one for each seed without a result; `o`: stale (out of date)."""


LINE = 120
"""Characters of a printed line; the columns of a wide study stand in several blocks."""


@dataclass(frozen=True)
class Coverage:
    """For each (loss, variant) and (dataset, encoder): what became of its seeds; skipped rows have the reason."""

    study: str
    counts: Counts
    columns: tuple[tuple[str, str], ...]
    rows: tuple[tuple[str, str], ...]
    outcomes: dict[tuple[str, str, str, str], Counter[str]]
    skipped: dict[tuple[str, str, str, str], str]

    def text(self, loss: str, variant: str, dataset: str, encoder: str) -> str:
        """`3/3`, or with what is not well: `1/3 d.` (one diverged, one missing); `skip`; nothing if not asked for."""
        key = (dataset, encoder, loss, variant)
        if key in self.skipped:
            return "skip"
        if key not in self.outcomes:
            return ""
        seeds = self.outcomes[key]
        marks = "".join(SYMBOLS[outcome] * n for outcome, n in sorted(seeds.items()) if outcome != "ok")
        return f"{seeds['ok']}/{seeds.total()}" + (f" {marks}" if marks else "")

    def render(self) -> str:
        outcomes: Counter[str] = sum(self.outcomes.values(), Counter())
        names = [loss if variant == "base" else f"{loss} ({variant})" for loss, variant in self.rows]
        titles = [d if e == NO_ENCODER else f"{d}/{e}" for d, e in self.columns]
        body = [[self.text(*row, *column) for column in self.columns] for row in self.rows]
        widths = [max(map(len, column)) for column in zip(titles, *body, strict=True)]
        first = max(map(len, names), default=0)
        lines: list[str] = []
        for chosen in _blocks(widths, LINE - first):
            lines += [""] if lines else []
            for name, cells in zip(("", *names), (titles, *body), strict=True):
                shown = "".join(f"  {cells[k].ljust(widths[k])}" for k in chosen)
                lines.append(name.ljust(first) + shown)
        legend = ", ".join(f"{symbol} {outcome}" for outcome, symbol in SYMBOLS.items() if outcomes[outcome])
        return "\n".join(
            [
                f"study {self.study}: {self.counts}",
                "",
                *(line.rstrip() for line in lines),
                *(["", legend] if legend else []),
            ]
        )


def _blocks(widths: list[int], room: int) -> list[list[int]]:
    """The columns, dealt into blocks that fit a line; a column that is too wide for any stands alone."""
    blocks: list[list[int]] = [[]]
    left = room
    for k, width in enumerate(widths):
        if blocks[-1] and width + 2 > left:
            blocks.append([])
            left = room
        blocks[-1].append(k)
        left -= width + 2
    return blocks


def coverage(study: OpenStudy) -> Coverage:
    """Reads the study's records as they are now; nothing has to be collected before. Raises RecordError.

    Of kept results, which have no records, it reads `cells.csv`."""
    outline, paths = study
    outcomes: dict[tuple[str, str, str, str], Counter[str]] = {}
    if is_kept(study):
        counts = Counts.of(*_kept_states(study, outcomes))
    else:
        cells = cell_statuses(outline, paths)
        for status in cells:
            _add(outcomes, status.cell.id, status.outcome)
        counts = Counts.of((status.state for status in cells), sum(status.failed for status in cells))
    skipped = {(row.dataset, row.encoder, row.loss, row.variant): row.reason for row in outline.skipped}
    return Coverage(outline.study, counts, _columns(outcomes, outline), _rows(outline), outcomes, skipped)


def _kept_states(
    study: OpenStudy, outcomes: dict[tuple[str, str, str, str], Counter[str]]
) -> tuple[list[State], int]:
    """The states of the cells, and how many failed; adds what became of each to `outcomes`."""
    require_collected(study)
    states: list[State] = []
    failed = 0
    with study.paths.cells_csv.open(newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            outcome = row["state"]
            if outcome == "skipped":
                continue
            dataset, encoder, loss, variant, seed = (row[name] for name in COORDINATES)
            _add(outcomes, CellId(dataset, encoder, loss, variant, int(seed)), outcome)
            states.append("stale" if outcome == "stale" else "missing" if outcome == "missing" else "current")
            failed += outcome not in ("ok", "stale", "missing")
    return states, failed


def _add(outcomes: dict[tuple[str, str, str, str], Counter[str]], cell: CellId, outcome: str) -> None:
    row = (cell.dataset, cell.encoder, cell.loss, cell.variant)
    outcomes.setdefault(row, Counter())[outcome] += 1


def _columns(
    outcomes: dict[tuple[str, str, str, str], Counter[str]], outline: Outline
) -> tuple[tuple[str, str], ...]:
    """Datasets in the order of the study, each with the encoders that it has cells for, none last."""
    pairs = {key[:2] for key in outcomes} | {(row.dataset, row.encoder) for row in outline.skipped}
    ordered = [(d, e) for d in outline.datasets for e in outline.encoders_with_none]
    return tuple(pair for pair in ordered if pair in pairs)


def _rows(outline: Outline) -> tuple[tuple[str, str], ...]:
    trained = [(loss, variant) for loss in outline.losses for variant in outline.variants]
    return (*trained, *((baseline, "base") for baseline in outline.baselines))
