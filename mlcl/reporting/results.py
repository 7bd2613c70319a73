"""A study's results, loaded: its outline, the three CSV files, the datasets' cards."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from math import nan
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, cast

import pandas as pd

from mlcl.errors import MlclError
from mlcl.records.collect import CELLS_COLUMNS, COSTS_COLUMNS, METRICS_COLUMNS, require_collected
from mlcl.records.outline import NO_ENCODER, Outline, open_study
from mlcl.records.paths import StudyPaths

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

    @property
    def complete(self) -> bool:
        """All seeds are there, made of what the study asks for."""
        return self.ok == self.expected


@dataclass(frozen=True)
class Results:
    """Everything that tables, figures and the report are made of."""

    outline: Outline
    paths: StudyPaths
    metrics: pd.DataFrame
    costs: pd.DataFrame
    cells: pd.DataFrame
    cards: dict[str, dict[str, Any]]

    @cached_property
    def rows(self) -> dict[RowKey, RowState]:
        """All rows of the grid, skipped ones too."""
        groups = self.cells.groupby(ROW, sort=False)
        return {cast(RowKey, key): _row_state(group) for key, group in groups}

    def labels_of(self, dataset: str) -> int | None:
        """How many labels the dataset has; None where its card is not there."""
        card = self.cards.get(dataset)
        return None if card is None else len(card["labels"])

    @cached_property
    def _values(self) -> dict[tuple[str, ...], dict[int, float]]:
        by_row: dict[tuple[str, ...], dict[int, float]] = {}
        columns = (self.metrics[column].tolist() for column in (*ROW, "split", "metric"))
        keys = zip(*columns, strict=True)
        for key, seed, value in zip(
            keys, self.metrics["seed"].tolist(), self.metrics["value"].tolist(), strict=True
        ):
            by_row.setdefault(key, {})[seed] = value
        return by_row

    def values(self, row: RowKey, split: str, metric: str) -> dict[int, float]:
        """seed -> value, for the seeds that are there."""
        return self._values.get((*row, split, metric), {})

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

    Raises MlclError if its records were not collected, or not since the study changed.
    """
    opened = open_study(study)
    require_collected(opened)
    outline, paths = opened
    return Results(
        outline,
        paths,
        metrics=_read_csv(paths.metrics_csv, METRICS_COLUMNS),
        costs=_read_csv(paths.costs_csv, COSTS_COLUMNS),
        cells=_read_csv(paths.cells_csv, CELLS_COLUMNS),
        cards={dataset: card for dataset in outline.datasets if (card := _read_card(paths.card(dataset)))},
    )


def _read_csv(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    types: dict[str, str] = dict.fromkeys(columns, "str") | {"seed": "int64"}
    try:
        frame = pd.read_csv(path, dtype=types, keep_default_na=False)
    except FileNotFoundError:
        raise MlclError(f"{path}: is not there; aggregate the study's records first") from None
    except ValueError as error:
        raise MlclError(f"{path}: cannot be read ({error}); aggregate the study's records again") from None
    if tuple(frame.columns) != columns:
        raise MlclError(f"{path}: has other columns than {', '.join(columns)}; aggregate the records again")
    if "value" in columns:
        # Python's own reading of a float is exact; that of pandas is not in every version.
        frame["value"] = [float(text) for text in frame["value"]]
    return frame


def _read_card(path: Path) -> dict[str, Any] | None:
    try:
        card: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise MlclError(f"{path}: is no card of a dataset ({error}); prepare the dataset again") from None
    return card


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
    )
