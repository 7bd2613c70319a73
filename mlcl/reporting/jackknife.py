"""Metrics without each group of test examples, by cell: what the variance over examples follows from.

They are computed from a cell's scores once and stored in `jackknife.csv` beside the results, each with a digest of the
scores and of the code. Kept results have this file and no scores.
"""

from __future__ import annotations

import csv
import hashlib
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlcl.errors import MlclError
from mlcl.evaluation import metrics as definitions
from mlcl.evaluation.metrics import UNKNOWN, best_thresholds, frequency_bands
from mlcl.records.collect import COORDINATES
from mlcl.records.files import atomic_file
from mlcl.records.paths import CellId
from mlcl.records.record import SCORES
from mlcl.records.rescore import read_scores
from mlcl.reporting.results import Results
from mlcl.reporting.statistics import examples

UNIT = 1e-6
"""Of stored values: far below what their variance could show."""
COLUMNS = (
    *COORDINATES,
    "readout",
    "split",
    "metric",
    "made_of",
    "first_in_millionths",
    "others_less_first",
    "seal",
)
"""The values in units of 1e-6: the first, then the others as differences from it, separated by spaces; the seal is a
digest of the other columns."""
Key = tuple[CellId, str, str, str]
"""Cell, readout, split, metric."""


class Jackknife:
    """The values of a study's cells. `write` stores those that were asked for, and those of its other cells that were
    stored already."""

    def __init__(self, results: Results) -> None:
        self._results = results
        self._sure: set[Key] = set()
        self._changed = False

    def without_groups(
        self, cell: CellId, readout: str, split: str, metric: str
    ) -> NDArray[np.float64] | None:
        """(groups,) the metric without each group of examples; None without scores or for other metrics."""
        key = (cell, readout, split, metric)
        if key not in self._sure:
            self._bring_up_to_date(key)
        return np.asarray(self._stored[key][1] * UNIT, dtype=np.float64) if key in self._stored else None

    def write(self) -> None:
        if not self._changed or self._results.kept:
            return
        asked_for = {one.id for one in self._results.outline.cells}
        with atomic_file(self._file) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            for (cell, *names), (made_of, values) in self._stored.items():
                if cell in asked_for:
                    place = (cell.dataset, cell.encoder, cell.loss, cell.variant, cell.seed, *names)
                    differences = " ".join(map(str, (values[1:] - values[0]).tolist()))
                    row = [*map(str, place), made_of, str(values[0]), differences]
                    writer.writerow((*row, _seal(row)))
        self._changed = False

    @property
    def _file(self) -> Path:
        return self._results.paths.jackknife

    @cached_property
    def _stored(self) -> dict[Key, tuple[str, NDArray[np.int64]]]:
        """Rows that are not what was written count as none, but in kept results, where there is no other source."""
        try:
            with self._file.open(newline="", encoding="utf-8", errors="replace") as lines:
                header, *rows = csv.reader(lines)
        except FileNotFoundError:
            return {}
        except ValueError:
            header, rows = [], []
        if tuple(header) != COLUMNS:
            if self._results.kept:
                raise MlclError(f"{self._file}: was kept by another version of mlcl; keep the study again")
            return {}
        whole = [row for row in rows if len(row) == len(COLUMNS) and row[-1] == _seal(row[:-1])]
        if self._results.kept and len(whole) < len(rows):
            raise MlclError(f"{self._file}: is not what was written; take it from where it was kept again")
        return dict(map(_entry, whole))

    @cached_property
    def _code(self) -> bytes:
        return b"".join(Path(str(module.__file__)).read_bytes() for module in (examples, definitions))

    def _bring_up_to_date(self, key: Key) -> None:
        """Computes the entry anew if it is not made of what lies there now; removes it where nothing does."""
        self._sure.add(key)
        cell, readout, split, metric = key
        file = self._results.paths.cell(cell) / SCORES
        if self._results.kept:
            return
        needs_card = metric.endswith(examples.BANDS)
        counts = self._results.training_counts(cell.dataset)
        no_card = needs_card and counts is None
        if not examples.is_supported(metric) or no_card or not file.exists():
            self._changed |= self._stored.pop(key, None) is not None
            return
        digest = hashlib.sha256(f"{metric} {split} {readout} {examples.GROUPS}".encode() + self._code)
        digest.update(file.read_bytes())
        if needs_card:
            digest.update(repr(counts).encode())
        made_of = digest.hexdigest()[:16]
        if key not in self._stored or self._stored[key][0] != made_of:
            values = examples.without_groups(self._scored(cell, readout, split), metric)
            self._stored[key] = (made_of, np.rint(values / UNIT).astype(np.int64))
            self._changed = True

    def _scored(self, cell: CellId, readout: str, split: str) -> examples.Scored:
        stored = read_scores(self._results.paths.cell(cell) / SCORES, readout)
        counts = self._results.training_counts(cell.dataset)
        bands = {} if counts is None else frequency_bands(counts)
        known = stored[f"{split}_labels"] != UNKNOWN
        return examples.Scored(
            stored[f"{split}_labels"] == 1,
            stored[f"{split}_scores"].astype(np.float32),
            best_thresholds(stored["val_labels"], stored["val_scores"]),
            bands,
            None if known.all() else known,
        )


def _seal(row: list[str]) -> str:
    return hashlib.sha256(",".join(row).encode()).hexdigest()[:16]


def _entry(row: list[str]) -> tuple[Key, tuple[str, NDArray[np.int64]]]:
    dataset, encoder, loss, variant, seed, readout, split, metric, made_of, first, others, _ = row
    differences = np.array([0, *others.split()], dtype=np.int64)
    cell = CellId(dataset, encoder, loss, variant, int(seed))
    return (cell, readout, split, metric), (made_of, differences + int(first))
