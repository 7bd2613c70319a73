"""Weighted sums of rows of the grid, with the variance over seeds and test examples."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, variance

import numpy as np

from mlcl.records.paths import CellId
from mlcl.reporting.jackknife import Jackknife
from mlcl.reporting.results import Results, RowKey
from mlcl.reporting.statistics.contrast import Contrast, Pool, Row, contrast, mean_of

Term = tuple[float, RowKey]
"""A weight and a row of the grid."""


class Contrasts:
    """Computes contrasts of a study's rows. `write` stores the jackknife values for the next time."""

    def __init__(self, results: Results, jackknife: Jackknife | None = None) -> None:
        self._results = results
        self._jackknife = jackknife or Jackknife(results)
        self._by_readout: dict[str, Contrasts] = {}
        self._pools: dict[tuple[str, ...], Pool | None] = {}

    def of(self, terms: Sequence[Term], metric: str, split: str) -> Contrast:
        """The weighted sum of the rows' means over seeds. Rows of one dataset share its examples; datasets are
        independent. Every row must have a value of the metric."""
        return pooled([(self, terms)], metric, split)

    def between_readouts(
        self, terms: Sequence[Term], metric: str, split: str, readout: str, other: str
    ) -> Contrast:
        """The weighted sum of what the rows' means gain by `readout` over `other`. Both read the same encoders, so the
        gains are paired by seed."""
        first, second = self.with_readout(readout), self.with_readout(other)
        by_dataset: dict[str, list[Row]] = {}
        for weight, row in terms:
            (a,), (b,) = (one.rows([(weight, row)], metric, split) for one in (first, second))
            gains = [x - y for x, y in zip(a.values, b.values, strict=True)]
            without_groups = None
            if a.without_groups is not None and b.without_groups is not None:
                without_groups = a.without_groups - b.without_groups
            by_dataset.setdefault(row[0], []).append(Row(weight, gains, without_groups))
        return _sum_of([contrast(rows) for rows in by_dataset.values()])

    def with_readout(self, readout: str | None) -> Contrasts:
        """The same for another readout, with the same jackknife values; None: as it is."""
        if readout in (None, self._results.outline.readout):
            return self
        if readout not in self._by_readout:
            self._by_readout[readout] = Contrasts(self._results.with_readout(readout), self._jackknife)
        return self._by_readout[readout]

    def write(self) -> None:
        self._jackknife.write()

    def examples_of(self, dataset: str) -> tuple[str, int | None]:
        """What tells a dataset's test examples from those of others: its name and their number."""
        card = self._results.cards.get(dataset)
        return dataset, None if card is None else card["splits"]["test"]["examples"]

    def rows(self, terms: Sequence[Term], metric: str, split: str) -> list[Row]:
        """The rows with the values of their seeds, as `contrast` takes them."""
        rows = []
        for weight, row in terms:
            by_seed = self._results.values(row, split, metric)
            readout = self._results.outline.readout
            cells = (CellId(*row, seed) for seed in by_seed)
            values = [self._jackknife.without_groups(cell, readout, split, metric) for cell in cells]
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


def pooled(parts: Sequence[tuple[Contrasts, Sequence[Term]]], metric: str, split: str) -> Contrast:
    """The weighted sum of rows of one study or of several. Rows of one dataset share its examples, also where the rows
    are of different studies; datasets are independent."""
    by_dataset: dict[tuple[str, int | None], list[Row]] = {}
    for contrasts, terms in parts:
        for weight, row in terms:
            key = contrasts.examples_of(row[0])
            by_dataset.setdefault(key, []).extend(contrasts.rows([(weight, row)], metric, split))
    return _sum_of([contrast(rows) for rows in by_dataset.values()])


def _sum_of(parts: Sequence[Contrast]) -> Contrast:
    return mean_of(parts).scaled(len(parts))
