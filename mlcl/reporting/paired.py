"""Each loss against the best one of its column, by paired bootstrap over test examples.

A bootstrap is kept beside the results under a digest of all that it depends on, so that only what changed is
computed again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlcl.reporting.comparing import complete_means, primary_metric
from mlcl.reporting.metric_info import metric_info
from mlcl.reporting.results import Results
from mlcl.reporting.statistics import examples
from mlcl.reporting.statistics.seeds import Estimate
from mlcl.study.files import write_json
from mlcl.study.paths import CellId
from mlcl.study.records import SCORES
from mlcl.study.rescore import read_scores

KEPT = "bootstrap.json"
Column = tuple[str, str]


@dataclass(frozen=True)
class AgainstBest:
    """loss -> its difference to the best loss of a column, with the interval over test examples."""

    best: str
    differences: Mapping[str, Estimate]


def against_best(results: Results) -> dict[Column, AgainstBest]:
    """For each column with two complete losses or more whose scores are here, by the primary metric."""
    metric = primary_metric(results)
    if metric not in examples.METRICS:
        return {}
    kept = _Kept(results.paths.results / KEPT)
    means = complete_means(results, metric)
    found = {}
    for column in results.outline.columns():
        own = {loss: values[column] for loss, values in means.items() if column in values}
        files = {loss: _score_files(results, column, loss) for loss in own}
        if len(own) > 1 and all(file.exists() for seeds in files.values() for file in seeds):
            best = max(
                own, key=lambda loss: own[loss] if metric_info(metric).higher_is_better else -own[loss]
            )
            digest = _digest(metric, files)
            if digest not in kept.entries:
                kept.entries[digest] = _bootstrap(metric, own, files, best)
            bounds = kept.use(digest)
            differences = {
                loss: Estimate(own[loss] - own[best], *bounds[loss]) for loss in own if loss != best
            }
            found[column] = AgainstBest(best, differences)
    kept.write()
    return found


class _Kept:
    """Bootstraps of earlier runs; those that are no longer asked for are dropped."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._used: dict[str, dict[str, list[float]]] = {}
        try:
            self.entries: dict[str, dict[str, list[float]]] = json.loads(file.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            self.entries = {}
        self._before = dict(self.entries)

    def use(self, digest: str) -> dict[str, list[float]]:
        self._used[digest] = self.entries[digest]
        return self.entries[digest]

    def write(self) -> None:
        if self._used != self._before:
            write_json(self.file, self._used)


def _score_files(results: Results, column: Column, loss: str) -> list[Path]:
    cells = [CellId(*column, loss, "base", seed) for seed in results.outline.seeds]
    return [results.paths.cell(cell) / SCORES for cell in cells]


def _digest(metric: str, files: Mapping[str, list[Path]]) -> str:
    """Of the scores, the metric, and the code of the bootstrap."""
    digest = hashlib.sha256(f"{metric} {examples.RESAMPLES}".encode())
    digest.update(Path(examples.__file__).read_bytes())
    for loss, seeds in files.items():
        digest.update(loss.encode())
        for file in seeds:
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _bootstrap(
    metric: str, means: Mapping[str, float], files: Mapping[str, list[Path]], best: str
) -> dict[str, list[float]]:
    """loss -> low and high of its difference to the best."""
    scored = []
    for seeds in files.values():
        stored = [read_scores(file) for file in seeds]
        scored.append(
            examples.Scored(
                stored[0]["test_labels"].astype(np.bool_),
                [one["test_scores"].astype(np.float32) for one in stored],
            )
        )
    values = dict(zip(files, examples.resampled(scored, metric), strict=True))
    bounds = {}
    for loss in means:
        if loss != best:
            interval = examples.interval(values[loss] - values[best], means[loss] - means[best])
            bounds[loss] = [interval.low, interval.high]
    return bounds
