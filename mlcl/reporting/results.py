"""A study's results, loaded: its outline, the collected files, the datasets' cards."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from math import nan
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlcl.errors import MlclError
from mlcl.evaluation.readouts import NO_READOUT, preference
from mlcl.records.cards import read_card
from mlcl.records.collect import (
    CELLS_COLUMNS,
    COSTS_COLUMNS,
    CURVES_COLUMNS,
    METRICS_COLUMNS,
    require_collected,
)
from mlcl.records.labels import LABELS_COLUMNS, MEASURES, Confusion, read_confusions
from mlcl.records.outline import NO_ENCODER, Outline, open_study
from mlcl.records.paths import SearchRow, StudyPaths
from mlcl.records.search import Chosen, read_chosen
from mlcl.reporting.wide import narrow

ROW = ["dataset", "encoder", "loss", "variant"]
"""What makes a row of the grid: a cell but for its seed."""
RowKey = tuple[str, str, str, str]


@dataclass(frozen=True)
class RowState:
    """What became of the seeds of a row."""

    expected: int
    ok: int
    skipped: bool
    problems: tuple[str, ...]
    """One text for each seed without a result: 'seed 2: diverged (reason)'."""
    untrained: tuple[str, ...] = ()
    """Why training did not reach its end (`mlcl.records.diagnosis`): '... (2 of 3 seeds)'. No conclusion is drawn."""
    edges: tuple[str, ...] = ()
    """Choices of linear evaluation at an end of its grid, likewise."""
    waiting: int = 0
    """Seeds that have no current record yet; the others without a result failed."""

    @property
    def complete(self) -> bool:
        """All seeds are there, made of what the study asks for."""
        return self.ok == self.expected


@dataclass(frozen=True)
class LearningCurve:
    """What a run looked like after each epoch, (epochs,) each; NaN where a value is not finite or was not looked at."""

    epochs: NDArray[np.int64]
    loss: NDArray[np.float64]
    val_loss: NDArray[np.float64]
    val_micro_f1: NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class Results:
    """Everything that tables, figures and the report are made of."""

    outline: Outline
    paths: StudyPaths
    metrics: pd.DataFrame
    costs: pd.DataFrame
    cells: pd.DataFrame
    cards: dict[str, dict[str, Any]]
    curves: dict[SearchRow, dict[int, LearningCurve]]
    """(dataset, encoder, loss) -> seed -> learning curve, of the variant `base`"""
    trials: pd.DataFrame | None
    """`search.csv`: one row for each setting of each trial; None where nothing is searched for."""
    chosen: dict[SearchRow, Chosen]
    """What the search chose, for the rows whose trials are all there."""
    provenance: dict[str, dict[str, int]]
    """`commit`, `device`, ..., or a package's name -> what the records that count say -> how many of them do."""
    kept: bool = False
    """Are there only the collected files, without records (`mlcl keep`)?"""

    def __repr__(self) -> str:
        complete = sum(row.complete for row in self.rows.values())
        return (
            f"<results of the study {self.outline.study}: {len(self.outline.datasets)} datasets, "
            f"{len(self.outline.losses)} losses, {len(self.outline.seeds)} seeds; {complete} of {len(self.rows)} rows "
            "complete>"
        )

    @cached_property
    def rows(self) -> dict[RowKey, RowState]:
        """All rows of the grid, skipped ones too."""
        groups = self.cells.groupby(ROW, sort=False)
        return {cast(RowKey, key): _row_state(group) for key, group in groups}

    @cached_property
    def labels(self) -> pd.DataFrame:
        """labels.csv: each label of each cell (`mlcl.records.labels`), read when it is asked for."""
        return _read_labels(self.paths.labels_csv)

    @cached_property
    def confusions(self) -> dict[tuple[str, ...], Confusion]:
        """(dataset, encoder, loss) -> which labels are taken for which."""
        return read_confusions(self.paths.confusions)

    def labels_of(self, dataset: str) -> int | None:
        """How many labels the dataset has; None where its card is not there."""
        card = self.cards.get(dataset)
        return None if card is None else len(card["labels"])

    def training_counts(self, dataset: str) -> list[int] | None:
        """Training rows that have each label, in the dataset's order; None where its card is not there."""
        if (card := self.cards.get(dataset)) is None:
            return None
        counts = card["splits"]["train"]["label_counts"]
        return [int(counts[label]) for label in card["labels"]]

    @cached_property
    def _values(self) -> dict[tuple[str, ...], dict[int, float]]:
        by_row: dict[tuple[str, ...], dict[int, float]] = {}
        columns = (self.metrics[column].tolist() for column in (*ROW, "readout", "split", "metric"))
        keys = zip(*columns, strict=True)
        for key, seed, value in zip(
            keys, self.metrics["seed"].tolist(), self.metrics["value"].tolist(), strict=True
        ):
            by_row.setdefault(key, {})[seed] = value
        return by_row

    def values(self, row: RowKey, split: str, metric: str) -> dict[int, float]:
        """seed -> value by the readout of the study's tables, for the seeds that are there.

        What has no readout (baselines without an encoder, metrics of features) stands beside every one.
        """
        keys = ((*row, readout, split, metric) for readout in preference(self.outline.readout))
        return next((self._values[key] for key in keys if key in self._values), {})

    def has_readout(self, row: RowKey) -> bool:
        """Has any record of the row scores by the readout of the study's tables?

        Without a readout only rows without an encoder have scores: of the others the metrics of kept embeddings stand
        there.
        """
        return any(
            (*row, readout) in self._readouts_of_rows
            for readout in preference(self.outline.readout)
            if readout != NO_READOUT or row[1] == NO_ENCODER
        )

    @cached_property
    def _readouts_of_rows(self) -> set[tuple[str, ...]]:
        return {key[:5] for key in self._values}

    def with_readout(self, readout: str | None) -> Results:
        """The same results, seen by another readout (`mlcl.evaluation.readouts`); None: as they are."""
        if readout in (None, self.outline.readout):
            return self
        other = replace(self, outline=replace(self.outline, readout=readout))
        for shared in ("_values", "_readouts_of_rows", "rows"):  # cached properties that serve all readouts
            other.__dict__[shared] = getattr(self, shared)
        return other

    def mean_sd_n(self, row: RowKey, split: str, metric: str) -> tuple[float, float, int] | None:
        """Over the seeds that are there (sd: ddof 1, NaN for one seed); None where there is none."""
        values = list(self.values(row, split, metric).values())
        if not values:
            return None
        return fmean(values), stdev(values) if len(values) > 1 else nan, len(values)

    def row_for(self, dataset: str, encoder: str, loss: str, variant: str = "base") -> RowKey | None:
        """The row that stands in a (dataset, encoder) column; a baseline without encoder stands in all of them."""
        for candidate in ((dataset, encoder, loss, variant), (dataset, NO_ENCODER, loss, variant)):
            if candidate in self.rows:
                return candidate
        return None


def load_results(study: str | Path) -> Results:
    """`study`: the name of a study in `results/` here, or a results folder, wherever that lies.

    Its `metrics`, `costs` and `cells` are DataFrames with the coordinates of a cell in each row (dataset, encoder,
    loss, variant, seed), then (split, metric, value), (cost, value) and (state, reason). Metrics are fractions. Needs
    no torch. Raises MlclError if its records were not collected, or not since the study changed.
    """
    opened = open_study(study)
    collected = require_collected(opened)
    outline, paths = opened
    return Results(
        outline,
        paths,
        metrics=read_csv(paths.metrics_csv, METRICS_COLUMNS),
        costs=read_csv(paths.costs_csv, COSTS_COLUMNS),
        cells=read_csv(paths.cells_csv, CELLS_COLUMNS),
        cards={dataset: card for dataset in outline.datasets if (card := read_card(paths.card(dataset)))},
        curves=_read_curves(paths.curves_csv),
        trials=None
        if outline.search is None
        else pd.read_csv(paths.search_csv, keep_default_na=False, dtype="str"),
        chosen={} if outline.search is None else read_chosen(paths.chosen),
        provenance=collected.provenance,
        kept=collected.kept,
    )


def read_csv(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    """One of the collected files, in the long form where kept results have the short one; `seed` is an integer,
    `value` a float, all else are texts. Raises MlclError if it is not there or is no such file."""
    try:
        frame = pd.read_csv(path, dtype="str", keep_default_na=False)
        if "value" in columns:
            frame = narrow(frame, columns)
        if tuple(frame.columns) == columns:
            frame["seed"] = frame["seed"].astype("int64")
            if "value" in columns:
                # Python's own reading of a float is exact; that of pandas is not in every version.
                frame["value"] = [float(text) for text in frame["value"]]
    except FileNotFoundError:
        raise MlclError(f"{path}: is not there; aggregate the study's records first") from None
    except ValueError as error:
        raise MlclError(f"{path}: cannot be read ({error}); aggregate the study's records again") from None
    if tuple(frame.columns) != columns:
        raise MlclError(f"{path}: has other columns than {', '.join(columns)}; aggregate the records again")
    return frame


def _read_curves(path: Path) -> dict[SearchRow, dict[int, LearningCurve]]:
    curves: dict[SearchRow, dict[int, LearningCurve]] = {}
    frame = read_csv(path, CURVES_COLUMNS)
    for dataset, encoder, loss, _, seed, first, *series in zip(
        *(frame[column].tolist() for column in CURVES_COLUMNS), strict=True
    ):
        values = [np.array([float(text) for text in texts.split()]) for texts in series]
        epochs = int(first) + np.arange(len(values[0]))
        curve = LearningCurve(epochs, *(v if len(v) else np.full(len(epochs), np.nan) for v in values))
        curves.setdefault((dataset, encoder, loss), {})[seed] = curve
    return curves


def _read_labels(path: Path) -> pd.DataFrame:
    numbers = {"seed": "int64", "number": "int64", "positives": "int64"} | dict.fromkeys(MEASURES, "float64")
    types: Any = dict.fromkeys(LABELS_COLUMNS, "str") | numbers
    try:
        # An empty measure is NaN; a label that is called "nan" keeps its name.
        return pd.read_csv(
            path, dtype=types, keep_default_na=False, na_values={measure: [""] for measure in MEASURES}
        )
    except (OSError, ValueError) as error:
        raise MlclError(f"{path}: cannot be read ({error}); aggregate the study's records again") from None


def _row_state(cells: pd.DataFrame) -> RowState:
    lost = cells[cells["state"] != "ok"]
    problems = tuple(
        f"seed {seed}: {state}"
        + (f" ({' '.join(reason.split())})" if state not in ("missing", "skipped") else "")
        for seed, state, reason in zip(lost["seed"], lost["state"], lost["reason"], strict=True)
    )
    skipped = bool((cells["state"] == "skipped").all())
    return RowState(
        expected=len(cells),
        ok=len(cells) - len(lost),
        skipped=skipped,
        problems=(cells["reason"].iloc[0],) if skipped else problems,
        untrained=_counted(cells["untrained"], len(cells)),
        edges=_counted(cells["edges"], len(cells)),
        waiting=int(cells["state"].isin(["missing", "stale"]).sum()),
    )


def _counted(texts: pd.Series[str], seeds: int) -> tuple[str, ...]:
    """Each remark of the seeds, with its number of seeds."""
    counts = Counter(remark for text in texts for remark in text.split("; ") if remark)
    return tuple(f"{remark} ({count} of {seeds} seeds)" for remark, count in counts.items())
