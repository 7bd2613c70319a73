"""Statistics, tables, figures and the report of a study's results. Imports no torch; nothing below imports it.

`results`       metrics.csv, costs.csv and cells.csv, loaded (`mlcl.records.collect` writes them)
`metric_info`   names, directions and units of the metrics
`statistics`    uncertainty over seeds, test examples, datasets
`jackknife`     metrics without each group of test examples, computed from scores and stored
`contrasts`     differences between rows, with their variance over seeds and test examples
`ranking`       losses compared over the datasets of a study
`standings`     which losses can be told apart, with simultaneous intervals
`label_results` results of single labels for the best losses of a dataset, and which labels are confused
`cost_means`    mean costs of rows of the grid
`budgets`       the training budget of each loss, in words
`overview`      what can be told apart, what is close, what to run, in words
`overview_forms` the same for the terminal, Markdown and HTML
`specs`         what papers report and claim
`claims`        those claims, tested on results
`tables`        results -> LaTeX, PDF, Markdown, CSV, HTML
`figures`       results -> PDF and PNG
`pages`         HTML pages from templates
`report`        all of it on one page
`leaderboard`   what all kept studies together say
`dataset_page`  one page about a prepared dataset
`keep`, `wide`  results kept in the repository, as text and in short form
`fill`          gaps of kept results, filled from others
`diff`          what changed beyond noise between two metrics files
`failures`      tables and figures that could not be made
`counts`        counts in plain grammar
`visible`       texts of others, without what cannot be seen
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

ENTRY_POINTS = {
    "load_results": "results",
    "write_tables": "tables",
    "write_figures": "figures",
    "write_report": "report",
    "write_dataset_page": "dataset_page",
    "diff_metrics": "diff",
    "diff_studies": "diff",
}
"""name -> the module that defines it."""


def __getattr__(name: str) -> Any:
    """Imports an entry point on first use, because pandas and matplotlib take seconds to import."""
    if name not in ENTRY_POINTS:
        raise AttributeError(f"module 'mlcl.reporting' has no attribute '{name}'")
    return getattr(import_module(f"mlcl.reporting.{ENTRY_POINTS[name]}"), name)
