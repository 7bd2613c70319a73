"""How far each study is, and what is wrong with its rows, as its cells and control rows tell."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from mlcl.reporting.leaderboard.comparisons import Study
from mlcl.reporting.metric_info import metric_info
from mlcl.reporting.ranking import complete_means, primary_metric
from mlcl.reporting.results import Results


@dataclass(frozen=True)
class Quality:
    """Of a study: its cells, and among its rows (dataset, encoder, loss, variant) those with a mark.

    `below`: baseline -> rows of the study itself whose mean is below it, and rows that have such a baseline to compare.
    """

    study: Study
    cells: int
    ok: int
    missing: int
    failed: dict[str, int]
    """State -> cells."""
    rows: int
    untrained: int
    below: dict[str, tuple[int, int]]


def quality(study: Study) -> Quality:
    results = study.results
    states = Counter(state for state in results.cells["state"] if state != "skipped")
    failed = {state: count for state, count in states.items() if state not in ("ok", "missing", "stale")}
    own = [
        (row, state)
        for row, state in results.rows.items()
        if row[2] in results.outline.losses and not state.skipped
    ]
    return Quality(
        study,
        cells=states.total(),
        ok=states["ok"],
        missing=states["missing"] + states["stale"],
        failed=failed,
        rows=len(own),
        untrained=sum(bool(state.untrained) for _, state in own),
        below={baseline: _below(results, baseline) for baseline in results.outline.baselines},
    )


def _below(results: Results, baseline: str) -> tuple[int, int]:
    metric = primary_metric(results)
    info, split = metric_info(metric), results.outline.split
    below = compared = 0
    for by_column in complete_means(results, metric).values():
        for column, value in by_column.items():
            row = results.row_for(*column, baseline)
            if row and (control := results.mean_sd_n(row, split, metric)):
                compared += 1
                below += info.better(control[0], value)
    return below, compared
