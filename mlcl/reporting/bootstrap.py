"""Differences of losses by paired bootstrap over examples: against the best of a column, and for claims.

A bootstrap is kept beside the results under a digest of all that it depends on, so that only what changed is
computed again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlcl.records.files import JsonCache
from mlcl.records.paths import CellId
from mlcl.records.record import SCORES
from mlcl.records.rescore import read_scores
from mlcl.reporting.metric_info import metric_info
from mlcl.reporting.ranking import complete_means, primary_metric
from mlcl.reporting.results import Results, RowKey
from mlcl.reporting.statistics import examples
from mlcl.reporting.statistics.seeds import Estimate

KEPT = "bootstrap.json"
KEPT_CLAIMS = "bootstrap_claims.json"
Column = tuple[str, str]
Term = tuple[float, RowKey]
"""A row of the grid, and its weight in a sum."""


@dataclass(frozen=True)
class AgainstBest:
    """loss -> its difference to the best loss of a column, with the interval over examples."""

    best: str
    differences: Mapping[str, Estimate]


def against_best(results: Results) -> dict[Column, AgainstBest]:
    """For each column with two complete losses or more whose scores are here, by the primary metric.

    Means, best and intervals are all of the split that the study's table shows.
    """
    metric, split = primary_metric(results), results.outline.split
    if metric not in examples.METRICS:
        return {}
    kept, readout = JsonCache(results.paths.results / KEPT), results.outline.readout
    means = complete_means(results, metric)
    found = {}
    for column in results.outline.columns():
        own = {loss: values[column] for loss, values in means.items() if column in values}
        files = {loss: _score_files(results, (*column, loss, "base")) for loss in own}
        if len(own) > 1 and all(file.exists() for seeds in files.values() for file in seeds):
            best = max(
                own, key=lambda loss: own[loss] if metric_info(metric).higher_is_better else -own[loss]
            )
            bounds = kept.get(
                _digest(f"{metric} {split} {readout}", files),
                partial(_bootstrap, metric, split, readout, own, files, best),
            )
            differences = {
                loss: Estimate(own[loss] - own[best], *bounds[loss]) for loss in own if loss != best
            }
            found[column] = AgainstBest(best, differences)
    kept.write()
    return found


class ClaimedDifferences:
    """Intervals over test examples of weighted sums of rows, for claims on studies with a single seed."""

    def __init__(self, results: Results) -> None:
        self._results = results
        self._kept = JsonCache(results.paths.results / KEPT_CLAIMS)
        self._resampled: dict[tuple[RowKey, str, str], NDArray[np.float64]] = {}

    def interval(
        self, columns: Sequence[Sequence[Term]], metric: str, readout: str, observed: float
    ) -> Estimate | None:
        """Of the mean over columns of each column's sum; None where scores are not here or the metric has none."""
        files = {"/".join(row): _score_files(self._results, row) for terms in columns for _, row in terms}
        if metric not in examples.METRICS or not all(
            file.exists() for seeds in files.values() for file in seeds
        ):
            return None
        weights = ",".join(f"{weight:g}" for terms in columns for weight, _ in terms)

        def bounds() -> dict[str, list[float]]:
            sums = [
                np.sum([weight * self._values(row, metric, readout) for weight, row in terms], axis=0)
                for terms in columns
            ]
            found = examples.interval(np.mean(sums, axis=0), observed)
            return {"interval": [found.low, found.high]}

        kept = self._kept.get(_digest(f"{metric} {readout} {weights}", files), bounds)
        return Estimate(observed, *kept["interval"])

    def _values(self, row: RowKey, metric: str, readout: str) -> NDArray[np.float64]:
        """A row's metric on each resample. Every row of a dataset gets the same resamples; datasets differ."""
        key = (row, metric, readout)
        if key not in self._resampled:
            seed = int.from_bytes(hashlib.sha256(row[0].encode()).digest()[:4], "big")
            scored = _scored(_score_files(self._results, row), "test", readout)
            self._resampled[key] = examples.resampled([scored], metric, seed=seed)[0]
        return self._resampled[key]

    def write(self) -> None:
        """Keeps what was asked for this time."""
        self._kept.write()


def _score_files(results: Results, row: RowKey) -> list[Path]:
    return [results.paths.cell(CellId(*row, seed)) / SCORES for seed in results.outline.seeds]


def _scored(files: Sequence[Path], split: str, readout: str) -> examples.Scored:
    stored = [read_scores(file, readout) for file in files]
    labels = stored[0][f"{split}_labels"].astype(np.bool_)
    return examples.Scored(labels, [one[f"{split}_scores"].astype(np.float32) for one in stored])


def _digest(what: str, files: Mapping[str, list[Path]]) -> str:
    """Of what is computed, the scores, and the code of the bootstrap."""
    digest = hashlib.sha256(f"{what} {examples.RESAMPLES}".encode())
    digest.update(Path(examples.__file__).read_bytes())
    for loss, seeds in files.items():
        digest.update(loss.encode())
        for file in seeds:
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _bootstrap(
    metric: str,
    split: str,
    readout: str,
    means: Mapping[str, float],
    files: Mapping[str, list[Path]],
    best: str,
) -> dict[str, list[float]]:
    """loss -> low and high of its difference to the best."""
    scored = [_scored(seeds, split, readout) for seeds in files.values()]
    values = dict(zip(files, examples.resampled(scored, metric), strict=True))
    bounds = {}
    for loss in means:
        if loss != best:
            interval = examples.interval(values[loss] - values[best], means[loss] - means[best])
            bounds[loss] = [interval.low, interval.high]
    return bounds
