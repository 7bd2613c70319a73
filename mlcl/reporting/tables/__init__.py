"""Tables of a study: built once as objects (`model`), then rendered as LaTeX, Markdown, CSV and, by LaTeX, PDF."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from mlcl.records.files import write_text
from mlcl.records.paths import StudyPaths
from mlcl.reporting.claims import write_claims
from mlcl.reporting.contrasts import Contrasts
from mlcl.reporting.failures import Attempts, Failure
from mlcl.reporting.overview_forms import write_overview
from mlcl.reporting.results import Results, load_results
from mlcl.reporting.tables import latex, numbers, text
from mlcl.reporting.tables.best_against_each import best_against_each_table
from mlcl.reporting.tables.costs import costs_table
from mlcl.reporting.tables.differences import differences_table
from mlcl.reporting.tables.grid import (
    criteria_table,
    main_table,
    other_readouts,
    readout_table,
    variants_table,
)
from mlcl.reporting.tables.label_confusions import label_confusions_table
from mlcl.reporting.tables.label_scores import label_scores_table
from mlcl.reporting.tables.papers import paper_tables
from mlcl.reporting.tables.pdf import compile_pdf
from mlcl.reporting.tables.search import search_table
from mlcl.reporting.tables.table import Table
from mlcl.reporting.tables.tuned import tuned_table
from mlcl.reporting.visible import as_markdown

log = logging.getLogger(__name__)


def write_tables(study: str | Path, markdown_alone: bool = False) -> list[Failure]:
    """`paper_tables/<study>/`: the tables as .tex, .md, .csv and .pdf, numbers.tex for running text, claims.md,
    overview.md.

    Tables: `main`; `main-<readout>` for each other readout; `criteria` where thresholds were tuned; `search` where
    settings were searched for; `tuned` where rows have settings of an earlier search; `variants` where the study has
    some; `differences` to the best loss; `best-against-each` where there are enough datasets for tests of ranks;
    `paper-*` for each paper that shares a dataset with the study; `costs`; and for each dataset, but not as PDF,
    `label-scores-<dataset>` and `label-confusions-<dataset>`. One that fails says so in its file; the failures are
    returned. With `markdown_alone` there are the .md files only.
    """
    results = load_results(study)
    contrasts, attempts = Contrasts(results), Attempts("tables")
    of_labels = label_tables(results, attempts)
    of_study = study_tables(results, contrasts, attempts)
    for table in [*of_study, *of_labels]:
        if isinstance(table, Failure):
            written: object = table
        else:
            write = partial(write_table, table, results.paths, with_pdf=table not in of_labels)
            if markdown_alone:
                write = partial(_write_markdown, table, results.paths)
            written = attempts.make(table.name, write)
        if isinstance(written, Failure):
            _write_failure(written, results.paths)
    numbers_file = results.paths.tables / "numbers.tex"
    if not markdown_alone:
        attempts.make("numbers", lambda: write_text(numbers_file, numbers.render(results)))
    names = {table.name for table in of_study}
    for name, write_page in {
        "claims": lambda: write_claims(results, contrasts),
        "overview": lambda: write_overview(results, contrasts, names),
    }.items():
        if isinstance(failed := attempts.make(name, write_page), Failure):
            _write_failure(failed, results.paths)
    contrasts.write()
    return attempts.write(results.paths)


def study_tables(results: Results, contrasts: Contrasts, attempts: Attempts) -> list[Table | Failure]:
    """All tables of a study, in the order in which they are shown; in the place of one that fails, its failure."""
    single: dict[str, Callable[[], Table | None]] = {
        "main": lambda: main_table(results),
        "criteria": lambda: criteria_table(results),
        **{f"main-{name}": partial(readout_table, results, name) for name in other_readouts(results)},
        "search": lambda: search_table(results),
        "tuned": lambda: tuned_table(results),
        "variants": lambda: variants_table(results),
        "differences": lambda: differences_table(results, contrasts),
        "best-against-each": lambda: best_against_each_table(results),
    }
    made: list[Table | Failure | None] = [attempts.make(name, make) for name, make in single.items()]
    papers = attempts.make("papers", lambda: list(paper_tables(results)))
    made += [papers] if isinstance(papers, Failure) else papers
    made.append(attempts.make("costs", lambda: costs_table(results)))
    return [table for table in made if table is not None]


def label_tables(
    results: Results, attempts: Attempts, datasets: Iterable[str] | None = None
) -> list[Table | Failure]:
    """The tables of single labels of these datasets, by default of all."""
    kinds = {"label-scores": label_scores_table, "label-confusions": label_confusions_table}
    made = [
        attempts.make(f"{kind}-{dataset}", partial(make, results, dataset))
        for dataset in (results.outline.datasets if datasets is None else datasets)
        for kind, make in kinds.items()
    ]
    return [table for table in made if table is not None]


def _write_failure(failure: Failure, paths: StudyPaths) -> None:
    """In the place of the table, so that no older one is taken for it."""
    stem = paths.tables / failure.name
    for ending in (".tex", ".csv", ".pdf"):
        stem.with_suffix(ending).unlink(missing_ok=True)
    write_text(stem.with_suffix(".md"), f"This table failed: {as_markdown(failure.reason)}\n")


def _write_markdown(table: Table, paths: StudyPaths) -> None:
    write_text((paths.tables / table.name).with_suffix(".md"), text.markdown(table))


def write_table(table: Table, paths: StudyPaths, with_pdf: bool = True) -> None:
    """All forms of a table; the PDF, which takes about a second, only if its source changed."""
    stem = paths.tables / table.name
    source, pdf = stem.with_suffix(".tex"), stem.with_suffix(".pdf")
    code = latex.render(table, str(paths.metrics_csv))
    if absent := latex.absent_characters(table):
        named = ", ".join(f"{c} (U+{ord(c):04X})" for c in absent)
        log.warning("%s: LaTeX fonts lack %s; they are shown by their numbers", source, named)
    is_current = pdf.exists() and source.exists() and source.read_text(encoding="utf-8") == code
    write_text(source, code)
    _write_markdown(table, paths)
    write_text(stem.with_suffix(".csv"), text.comma_separated(table))
    if with_pdf and not is_current:
        compile_pdf(source)
