"""From records to evidence: statistics, tables, figures, report. Knows nothing of torch, and nothing flows back.

`results`      metrics.csv, costs.csv and cells.csv, loaded (`mlcl.records.collect` writes them)
`metric_info`  names, directions and units of the metrics
`statistics`   how sure: over seeds, test examples, datasets
`comparing`    losses compared over the datasets of a study
`costs`        what cells cost
`budgets`      what each loss was given, in words
`specs`        what papers report and claim
`claims`       those claims, held against results
`tables`       results -> LaTeX, Markdown, CSV, PDF
`figures`      results -> PDF and PNG
`report`       all of it on one page
`difference`   two metrics files compared
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_MODULE_OF = {
    "write_tables": "tables",
    "write_figures": "figures",
    "write_report": "report",
    "diff": "difference",
}


def __getattr__(name: str) -> Any:
    """The entry points, imported when they are first used: pandas and matplotlib take their time."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'mlcl.reporting' has no attribute '{name}'")
    return getattr(import_module(f"mlcl.reporting.{_MODULE_OF[name]}"), name)
