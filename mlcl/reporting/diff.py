"""What changed between two results folders: the conclusions, and the means that changed beyond noise."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from mlcl.errors import MlclError
from mlcl.records.collect import METRICS_COLUMNS
from mlcl.reporting.contrasts import Contrasts
from mlcl.reporting.counts import counted
from mlcl.reporting.metric_info import metric_info
from mlcl.reporting.overview import conclude
from mlcl.reporting.overview_forms import in_brief
from mlcl.reporting.ranking import primary_metric
from mlcl.reporting.results import load_results
from mlcl.reporting.statistics import ALPHA
from mlcl.reporting.statistics.datasets import holm
from mlcl.reporting.statistics.seeds import welch_p_value

Key = tuple[str, str, str, str, str, str, str]
"""dataset, encoder, loss, variant, readout, split, metric"""
MOST_ROWS = 12
"""Of those that only one of two results folders has."""
Runs = dict[int, float]
"""seed -> value"""


@dataclass(frozen=True)
class Change:
    """A mean over seeds that is not what it was. `p_value` is adjusted for all comparisons; None: noise unknown."""

    key: Key
    before: float
    after: float
    p_value: float | None

    @property
    def better(self) -> bool:
        return metric_info(self.key[-1]).better(self.after, self.before)

    def __str__(self) -> str:
        info = metric_info(self.key[-1])
        old, new = (f"{value * info.scale:.{info.decimals}f}" for value in (self.before, self.after))
        gap = f"{(self.after - self.before) * info.scale:+.{info.decimals}f}"
        certainty = "noise unknown: one seed" if self.p_value is None else f"p = {self.p_value:.2g}"
        word = "better" if self.better else "worse"
        return f"{'/'.join(self.key)}: {old} -> {new} ({gap}, {word}; {certainty})"


@dataclass(frozen=True)
class Changes:
    """All that differs between two metrics files. Noise: what Welch's test over seeds, adjusted by Holm, does not
    tell from chance. Values that are the same to the last bit are not tested."""

    compared: int
    identical: int
    changed: tuple[Change, ...]
    within_noise: int
    added: tuple[str, ...]
    removed: tuple[str, ...]

    def render(self, listed: Callable[[Key], bool] = lambda key: True, most_rows: int | None = None) -> str:
        """`listed`: which of the changes beyond noise get a line of their own; the others are counted. `most_rows`: how
        many rows that only one of the files has are named; None: all."""
        lines = [
            f"{self.compared} means over seeds compared: {self.identical} the same to the last bit, "
            f"{self.within_noise} changed within noise, {len(self.changed)} beyond it.",
            *(f"  {change}" for change in self.changed if listed(change.key)),
        ]
        if more := sum(not listed(change.key) for change in self.changed):
            lines.append(f"  {more} of them in other metrics or splits (--all lists them)")
        for word, rows in (("only in the new file", self.added), ("only in the old file", self.removed)):
            if rows:
                lines += [f"{counted(len(rows), 'row')} {word}:", *(f"  {row}" for row in rows[:most_rows])]
                if most_rows is not None and len(rows) > most_rows:
                    lines.append(f"  and {len(rows) - most_rows} more")
        return "\n".join(lines)


@dataclass(frozen=True)
class StudyChanges:
    """The conclusions of two results folders, as the terminal shows them, and the changes of the metrics."""

    before: list[str]
    after: list[str]
    changes: Changes
    shown: frozenset[tuple[str, str]]
    """(split, metric) of the tables and of the conclusions, of either folder."""

    def render(self) -> str:
        if self.before == self.after:
            told = ["The conclusion is the same:", *_indented(self.after)]
        else:
            told = ["Before:", *_indented(self.before), "After:", *_indented(self.after)]
        return "\n".join([*told, "", self.changes.render(lambda key: key[-2:] in self.shown, MOST_ROWS)])


def diff_studies(old: Path, new: Path) -> StudyChanges:
    """Compares two results folders, kept ones too. Raises MlclError if one holds no collected results."""
    both = [load_results(folder) for folder in (old, new)]
    before, after = (in_brief(conclude(results, Contrasts(results))) for results in both)
    shown = frozenset(
        (results.outline.split, metric)
        for results in both
        for metric in (*results.outline.metrics, primary_metric(results))
    )
    changes = diff_metrics(old / "metrics.csv", new / "metrics.csv")
    return StudyChanges(before, after, changes, shown)


def _indented(lines: Iterable[str]) -> list[str]:
    return [f"  {line}" for line in lines]


def diff_metrics(old: Path, new: Path, tolerance: float = 1e-3) -> Changes:
    """Compares two metrics.csv, row by row of the grid. Where there is one seed only, changes above `tolerance` are
    listed. Raises MlclError if a file is absent or no metrics file."""
    before, after = _read(old), _read(new)
    shared = [key for key in before if key in after]
    differing = [key for key in shared if before[key] != after[key]]
    tested = [key for key in differing if min(len(before[key]), len(after[key])) > 1]
    p_values = holm([welch_p_value(list(before[key].values()), list(after[key].values())) for key in tested])
    adjusted = dict(zip(tested, p_values, strict=True))
    changed = []
    for key in differing:
        a, b = fmean(before[key].values()), fmean(after[key].values())
        beyond = adjusted[key] < ALPHA if key in adjusted else abs(b - a) > tolerance
        if beyond:
            changed.append(Change(key, a, b, adjusted.get(key)))
    return Changes(
        compared=len(shared),
        identical=len(shared) - len(differing),
        changed=tuple(changed),
        within_noise=len(differing) - len(changed),
        added=_rows_only_in(after, before),
        removed=_rows_only_in(before, after),
    )


def _read(file: Path) -> dict[Key, Runs]:
    runs: dict[Key, Runs] = {}
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            reader = csv.reader(lines)
            columns = next(reader, [])
            for *row, metric, value in _long_rows(file, columns, reader):
                dataset, encoder, loss, variant, seed, readout, split = row
                key = (dataset, encoder, loss, variant, readout, split, metric)
                runs.setdefault(key, {})[int(seed)] = float(value)
    except FileNotFoundError:
        raise MlclError(f"{file}: is not there") from None
    except ValueError as error:
        raise MlclError(f"{file}: is no metrics.csv ({error})") from None
    return runs


def _long_rows(file: Path, columns: list[str], rows: Iterable[list[str]]) -> Iterable[list[str]]:
    """The rows of the long form; the file may have the form of kept results (`mlcl.reporting.wide`)."""
    if tuple(columns) == METRICS_COLUMNS:
        return rows
    keys = METRICS_COLUMNS[:-2]
    if tuple(columns[: len(keys)]) != keys:
        raise MlclError(f"{file}: is no metrics.csv (its columns: {', '.join(METRICS_COLUMNS)})")
    return (
        [*row[: len(keys)], metric, value]
        for row in rows
        for metric, value in zip(columns[len(keys) :], row[len(keys) :], strict=True)
        if value
    )


def _rows_only_in(one: Mapping[Key, Runs], other: Mapping[Key, Runs]) -> tuple[str, ...]:
    """Rows of the grid, named once, that have metrics which the other file lacks altogether."""
    theirs = {key[:4] for key in other}
    return tuple(dict.fromkeys("/".join(key[:4]) for key in one if key[:4] not in theirs))
