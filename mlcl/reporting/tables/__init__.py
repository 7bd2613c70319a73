"""Tables of a study: built once as objects (`model`), then rendered as LaTeX, Markdown, CSV and, by LaTeX, PDF."""

from __future__ import annotations

from mlcl.reporting.results import Results, load_results
from mlcl.reporting.tables import latex, markdown, plain
from mlcl.reporting.tables.grid import main_table, variants_table
from mlcl.reporting.tables.model import Table
from mlcl.reporting.tables.pdf import compile_pdf
from mlcl.study.files import write_text
from mlcl.study.paths import StudyPaths


def write_tables(study: str) -> None:
    """`paper_tables/<study>/{main,variants}.{tex,md,csv,pdf}`; variants only where the study has some."""
    results = load_results(study)
    for table in study_tables(results):
        write_table(table, results.paths)


def study_tables(results: Results) -> list[Table]:
    """The tables of the grid, in the order in which they are shown."""
    return [table for table in (main_table(results), variants_table(results)) if table is not None]


def write_table(table: Table, paths: StudyPaths) -> None:
    stem = paths.tables / table.name
    write_text(stem.with_suffix(".tex"), latex.render(table, str(paths.metrics_csv)))
    write_text(stem.with_suffix(".md"), markdown.render(table))
    write_text(stem.with_suffix(".csv"), plain.render(table))
    compile_pdf(stem.with_suffix(".tex"))
