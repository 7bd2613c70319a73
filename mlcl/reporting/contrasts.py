"""Weighted sums of rows of the grid, with the variance over seeds and test examples.

What is computed from a cell's scores is cached beside the results, under a digest of the scores and of the code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, variance

import numpy as np
from numpy.typing import NDArray

from mlcl.evaluation import metrics as definitions
from mlcl.evaluation.metrics import best_thresholds, frequency_bands
from mlcl.records.files import JsonCache
from mlcl.records.paths import CellId
from mlcl.records.record import SCORES
from mlcl.records.rescore import read_scores
from mlcl.reporting.results import Results, RowKey
from mlcl.reporting.statistics import examples
from mlcl.reporting.statistics.contrast import Contrast, Pool, Row, contrast, mean_of

CACHE = "jackknife.json"
DIGITS = 9
"""Decimals of cached values: far below what their variance could show."""
Term = tuple[float, RowKey]
"""A weight and a row of the grid."""


class Contrasts:
    """Computes contrasts of a study's rows. `write` keeps the cache for the next time."""

    def __init__(self, results: Results) -> None:
        self._results = results
        self._cache = JsonCache(results.paths.results / CACHE)
        self._loaded: dict[tuple[CellId, str], examples.Scored | None] = {}
        self._computed: dict[tuple[CellId, str, str], NDArray[np.float64] | None] = {}
        self._by_readout: dict[str, Contrasts] = {}
        self._pools: dict[tuple[str, ...], Pool | None] = {}
        self._code = b"".join(Path(str(module.__file__)).read_bytes() for module in (examples, definitions))

    def of(self, terms: Sequence[Term], metric: str, split: str) -> Contrast:
        """The weighted sum of the rows' means over seeds. Rows of one dataset share its examples; datasets are
        independent. Every row must have a value of the metric."""
        by_dataset: dict[str, list[Term]] = {}
        for weight, row in terms:
            by_dataset.setdefault(row[0], []).append((weight, row))
        parts = [contrast(self._rows(dataset_terms, metric, split)) for dataset_terms in by_dataset.values()]
        return mean_of(parts).scaled(len(parts))

    def with_readout(self, readout: str | None) -> Contrasts:
        """The same for another readout, with the same cache; None: as it is."""
        if readout in (None, self._results.outline.readout):
            return self
        if readout not in self._by_readout:
            other = Contrasts(self._results.with_readout(readout))
            other._cache = self._cache
            self._by_readout[readout] = other
        return self._by_readout[readout]

    def write(self) -> None:
        self._cache.write()

    def _rows(self, terms: Sequence[Term], metric: str, split: str) -> list[Row]:
        rows = []
        for weight, row in terms:
            by_seed = self._results.values(row, split, metric)
            values = [self._without_groups(CellId(*row, seed), metric, split) for seed in by_seed]
            known = [one for one in values if one is not None]
            complete = np.array(known) if len(known) == len(values) else None
            rows.append(Row(weight, list(by_seed.values()), complete, self._pool(row, metric, split)))
        return rows

    def _pool(self, row: RowKey, metric: str, split: str) -> Pool | None:
        """Over the complete losses that stand in the same column and variant; None with a single seed."""
        dataset, encoder, _, variant = row
        key = (dataset, encoder, variant, metric, split)
        if key not in self._pools:
            results = self._results
            rows = [(dataset, encoder, loss, variant) for loss in results.outline.losses]
            runs = [
                list(results.values(r, split, metric).values())
                for r in rows
                if r in results.rows and results.rows[r].complete
            ]
            runs = [values for values in runs if len(values) > 1]
            freedom = sum(len(values) - 1.0 for values in runs)
            self._pools[key] = Pool(fmean(map(variance, runs)), freedom) if runs else None
        return self._pools[key]

    def _without_groups(self, cell: CellId, metric: str, split: str) -> NDArray[np.float64] | None:
        """(groups,) the metric without each group of examples; None without scores or for other metrics."""
        key = (cell, metric, split)
        if key not in self._computed:
            self._computed[key] = self._compute(cell, metric, split)
        return self._computed[key]

    def _compute(self, cell: CellId, metric: str, split: str) -> NDArray[np.float64] | None:
        file, readout = self._results.paths.cell(cell) / SCORES, self._results.outline.readout
        if not examples.is_supported(metric) or not file.exists():
            return None
        if metric.endswith(examples.BANDS) and cell.dataset not in self._results.cards:
            return None

        def values() -> list[float]:
            scored = self._scored(cell, split)
            return [round(float(v), DIGITS) for v in examples.without_groups(scored, metric)]

        digest = hashlib.sha256(f"{metric} {split} {readout} {examples.GROUPS}".encode() + self._code)
        digest.update(file.read_bytes())
        if metric.endswith(examples.BANDS):
            digest.update(repr(self._training_counts(cell.dataset)).encode())
        return np.array(self._cache.get(digest.hexdigest(), values))

    def _scored(self, cell: CellId, split: str) -> examples.Scored:
        stored = read_scores(self._results.paths.cell(cell) / SCORES, self._results.outline.readout)
        bands = {}
        if cell.dataset in self._results.cards:
            bands = frequency_bands(self._training_counts(cell.dataset))
        return examples.Scored(
            stored[f"{split}_labels"].astype(np.bool_),
            stored[f"{split}_scores"].astype(np.float32),
            best_thresholds(stored["val_labels"], stored["val_scores"]),
            bands,
        )

    def _training_counts(self, dataset: str) -> list[int]:
        card = self._results.cards[dataset]
        counts = card["splits"]["train"]["label_counts"]
        return [int(counts[label]) for label in card["labels"]]
