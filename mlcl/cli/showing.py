"""From records to tables, figures and pages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlcl.cli.common import (
    NOT_MADE,
    AsPlanned,
    DataRoot,
    KeepGoing,
    Log,
    StudyArgument,
    StudyFile,
    app,
    logged,
    open_current,
    say,
)

if TYPE_CHECKING:
    from mlcl.records.outline import OpenStudy
    from mlcl.reporting.failures import Failure

PANEL = "Show results"


@app.command(rich_help_panel=PANEL)
def aggregate(
    study: StudyArgument, partial: bool = False, log: Log = None, as_planned: AsPlanned = False
) -> None:
    """Collect the records into metrics.csv, costs.csv, cells.csv and labels.csv, and write the losses' pair weights."""
    with logged(log):
        opened = open_current(study, write=True, as_planned=as_planned)
        bring_up_to_date(opened, partial)
        say(f"{opened.outline.study}: collected the records in {opened.paths.metrics_csv}")


@app.command(rich_help_panel=PANEL)
def tables(
    study: StudyArgument,
    partial: bool = False,
    log: Log = None,
    as_planned: AsPlanned = False,
    keep_going: KeepGoing = False,
) -> None:
    """Write the tables; with --partial, from whatever records exist."""
    from mlcl import reporting

    with logged(log):
        opened = open_current(study, write=True, as_planned=as_planned)
        collect_if_needed(opened, anyway=partial)
        failed = reporting.write_tables(opened.paths.results)
        say(f"{opened.outline.study}: tables in {opened.paths.tables}/")
        require_all_made(failed, keep_going)


@app.command(rich_help_panel=PANEL)
def figures(
    study: StudyArgument, log: Log = None, as_planned: AsPlanned = False, keep_going: KeepGoing = False
) -> None:
    """Draw the figures from the collected metrics."""
    from mlcl import reporting

    with logged(log):
        opened = open_current(study, write=True, as_planned=as_planned)
        collect_if_needed(opened)
        say(f"{opened.outline.study}: drawing the figures")
        failed = reporting.write_figures(opened.paths.results)
        say(f"{opened.outline.study}: figures in {opened.paths.figures}/")
        require_all_made(failed, keep_going)


@app.command(rich_help_panel=PANEL)
def report(
    study: StudyArgument,
    log: Log = None,
    as_planned: AsPlanned = False,
    keep_going: KeepGoing = False,
    everything: Annotated[
        bool,
        typer.Option(
            "--all", help="First collect whatever records exist, write the tables and draw the figures."
        ),
    ] = False,
) -> None:
    """Write the report, one self-contained HTML page; with --all, in one process all that it is made of."""
    from mlcl import reporting

    with logged(log):
        opened = open_current(study, write=True, as_planned=as_planned)
        collect_if_needed(opened, anyway=everything)
        failed = []
        if everything:
            say(f"{opened.outline.study}: collected the records in {opened.paths.metrics_csv}")
            failed += write_parts(opened)
        if everything:
            _write_curves(opened)
        brief: list[str] = []
        failed += reporting.write_report(opened.paths.results, brief.append)
        say("\n".join([f"\n{opened.outline.study}: the report's overview in brief", *brief]))
        say(f"The report: {opened.paths.report}\n")
        require_all_made(failed, keep_going)


def _write_curves(opened: OpenStudy) -> None:
    """Of records that were made before their study asked for it, too."""
    from mlcl.records.tensorboard import write_curves
    from mlcl.study.config import load_study

    file = Path(opened.outline.file)
    if opened.paths.folder is None and file.is_file() and load_study(file).report_to == "tensorboard":
        write_curves(opened)
        say(f"{opened.outline.study}: learning curves in {opened.paths.tensorboard}/")


@app.command(rich_help_panel=PANEL)
def cards(study: StudyFile, data_root: DataRoot = None) -> None:
    """Write a page on each prepared dataset of a study: label frequencies, examples, counts."""
    from mlcl.reporting.dataset_page import write_dataset_page
    from mlcl.study.plan import make_plan

    planned = make_plan(study, data_root)
    planned.require_data()
    for name, dataset in planned.datasets.items():
        if dataset.folder is not None and dataset.folder.exists():
            say(f"{name}: {write_dataset_page(dataset.folder, planned.paths.results / name / 'card.html')}")
        else:
            say(f"{name}: is not prepared yet ('mlcl prepare {study}')")


@app.command(rich_help_panel=PANEL)
def diff(
    old: Annotated[Path, typer.Argument(help="A metrics.csv, or the results folder that holds it.")],
    new: Annotated[Path, typer.Argument(help="Another one.")],
    everything: Annotated[
        bool, typer.Option("--all", help="Every metric of every split, not those of the tables alone.")
    ] = False,
) -> None:
    """Say what changed: the conclusions of two results folders, and which means changed beyond noise."""
    from mlcl import reporting
    from mlcl.records.paths import OUTLINE

    results = all((path / OUTLINE).exists() for path in (old, new))
    if results and not everything:
        print(reporting.diff_studies(old, new).render())
        return
    files = [path / "metrics.csv" if path.is_dir() else path for path in (old, new)]
    print(reporting.diff_metrics(*files).render())


@app.command(rich_help_panel=PANEL)
def keep(
    study: StudyArgument,
    folder: Annotated[Path, typer.Argument(help="Where to keep it, such as results/reference/NAME.")],
    replace: Annotated[
        bool, typer.Option(help="Also where the folder has cells that these results lack.")
    ] = False,
) -> None:
    """Keep what a study's tables, figures and report are made of, as text: without records, scores or weights."""
    from mlcl.reporting.keep import keep as keep_results

    opened = open_current(study, write=True)
    collect_if_needed(opened)
    say(f"{opened.outline.study}: {keep_results(opened, folder, replace).render()}")


@app.command(rich_help_panel=PANEL)
def fill(
    folder: Annotated[Path, typer.Argument(help="Kept results with cells missing.")],
    sources: Annotated[list[Path], typer.Argument(help="Folders of kept results to take them from.")],
) -> None:
    """Fill gaps of kept results from other kept results, where fingerprints agree; README.md stays as it is."""
    from mlcl.reporting.fill import fill as fill_gaps

    say(fill_gaps(folder, sources).render())


@app.command(rich_help_panel=PANEL)
def leaderboard(
    folder: Annotated[Path, typer.Argument(help="Where kept results lie, one folder each.")] = Path(
        "results/reference"
    ),
    page: Annotated[Path, typer.Option(help="The page to write.")] = Path("results/leaderboard.html"),
    markdown: Annotated[Path, typer.Option(help="The text to write.")] = Path("docs/leaderboard.md"),
) -> None:
    """Say over all kept results which losses lead where, how surely and at what cost, as a page and as text."""
    from mlcl.reporting.leaderboard.page import write_leaderboard

    write_leaderboard(folder, page, markdown)
    say(f"leaderboard of {folder}: {page} and {markdown}")


def write_parts(opened: OpenStudy) -> list[Failure]:
    """Writes tables and figures, of which the report is made; returns those that failed."""
    from mlcl import reporting

    failed = [*reporting.write_tables(opened.paths.results)]
    say(f"{opened.outline.study}: tables in {opened.paths.tables}/")
    failed += reporting.write_figures(opened.paths.results)
    say(f"{opened.outline.study}: figures in {opened.paths.figures}/")
    return failed


def require_all_made(failed: Sequence[Failure], keep_going: bool) -> None:
    """Raises MlclError if a part of reporting failed, unless the run's last step will."""
    from mlcl.errors import MlclError
    from mlcl.reporting.failures import listed

    if failed and keep_going:
        say(f"{NOT_MADE}:\n{listed(failed)}")
    elif failed:
        raise MlclError(f"{NOT_MADE}:\n{listed(failed)}")


def bring_up_to_date(study: OpenStudy, partial: bool) -> None:
    """Brings all that reporting is made of up to date: metrics of stored scores, CSV files, pair weights."""
    from mlcl.records.collect import collect
    from mlcl.records.rescore import rescore_study

    rescore_study(study)
    collect(study, partial=partial)
    if study.paths.folder is None:  # of a folder from elsewhere the losses' sources may be others
        from mlcl.study.pair_weights import write_pair_weights

        write_pair_weights(study)


def collect_if_needed(study: OpenStudy, anyway: bool = False) -> None:
    """Collects what records there are if that was not done since the study changed."""
    from mlcl.records.collect import is_collected, is_kept

    if not is_kept(study) and (anyway or not is_collected(study)):
        bring_up_to_date(study, partial=True)
