"""Tables of a study: built once as objects (`model`), then rendered as LaTeX, Markdown, CSV and, by LaTeX, PDF."""

from __future__ import annotations

from pathlib import Path

from mlcl.records.files import write_text
from mlcl.records.paths import StudyPaths
from mlcl.reporting.claims import write_claims
from mlcl.reporting.contrasts import Contrasts
from mlcl.reporting.results import Results, load_results
from mlcl.reporting.tables import latex, numbers, text
from mlcl.reporting.tables.best_against_each import best_against_each_table
from mlcl.reporting.tables.costs import costs_table
from mlcl.reporting.tables.differences import differences_table
from mlcl.reporting.tables.grid import criteria_table, main_table, readout_tables, variants_table
from mlcl.reporting.tables.papers import paper_tables
from mlcl.reporting.tables.pdf import compile_pdf
from mlcl.reporting.tables.table import Table


def write_tables(study: str | Path) -> None:
    """`paper_tables/<study>/`: the tables as .tex, .md, .csv and .pdf, numbers.tex for running text, claims.md.

    Tables: `main`; `main-<readout>` for each other readout; `criteria` where thresholds were tuned; `variants` where
    the study has some; `differences` to the best loss; `best-against-each` where there are enough datasets for tests
    of ranks; `paper-*` for each paper that shares a dataset with the study; `costs`.
    """
    results = load_results(study)
    contrasts = Contrasts(results)
    for table in study_tables(results, contrasts):
        write_table(table, results.paths)
    write_text(results.paths.tables / "numbers.tex", numbers.render(results))
    write_claims(results, contrasts)
    contrasts.write()


def study_tables(results: Results, contrasts: Contrasts) -> list[Table]:
    """All tables of a study, in the order in which they are shown."""
    tables = [
        main_table(results),
        *readout_tables(results),
        criteria_table(results),
        variants_table(results),
        differences_table(results, contrasts),
        best_against_each_table(results),
        *paper_tables(results),
        costs_table(results),
    ]
    return [table for table in tables if table is not None]


def write_table(table: Table, paths: StudyPaths) -> None:
    """All forms of a table; the PDF is made again only if its source changed."""
    stem = paths.tables / table.name
    source, pdf = stem.with_suffix(".tex"), stem.with_suffix(".pdf")
    code = latex.render(table, str(paths.metrics_csv))
    is_current = pdf.exists() and source.exists() and source.read_text(encoding="utf-8") == code
    write_text(source, code)
    write_text(stem.with_suffix(".md"), text.markdown(table))
    write_text(stem.with_suffix(".csv"), text.comma_separated(table))
    if not is_current:
        compile_pdf(source)
