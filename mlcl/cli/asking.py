"""What a study has and needs, and why: nothing here changes a record."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlcl.cli.common import (
    NOT_MADE,
    AsPlanned,
    DataRoot,
    Log,
    StudyArgument,
    StudyFile,
    app,
    logged,
    open_current,
    planned_cell,
    say,
)

if TYPE_CHECKING:
    from mlcl.records.outline import OpenStudy

PANEL = "Ask"


@app.command(rich_help_panel=PANEL)
def plan(
    study: StudyFile,
    data_root: DataRoot = None,
    cells: Annotated[bool, typer.Option(help="Also list each cell that is to be made, and why.")] = False,
    device_tflops: Annotated[
        float | None,
        typer.Option(
            help="10^12 operations a second of a large matrix product, for computed times: 100 is a modest GPU. "
            "Default: this machine.",
            min=1e-6,
        ),
    ] = None,
) -> None:
    """Say what a study has, what it still needs, and what that takes; write nothing."""
    from data_prep import sanity
    from mlcl.study.estimate import Device, estimate, this_machine
    from mlcl.study.plan import make_plan

    planned = make_plan(study, data_root)
    print(planned.summary())
    print()
    device = Device(device_tflops) if device_tflops else this_machine(planned.study.compute)
    print(estimate(planned, device).render())
    for name, dataset in planned.datasets.items():
        for number, sentence in enumerate(sanity.report(dataset.folder) if dataset.folder else ()):
            print(f"\ndataset {name}: {sentence}" if number == 0 else f"  {sentence}")
    for cell in planned.all_cells if cells else ():
        if reasons := cell.why():
            print(f"  {cell.cell.id}: {'; '.join(reasons)}")
    for skip in planned.skips if cells else ():
        print(f"  {skip.dataset}/{skip.encoder}/{skip.loss}/{skip.variant}: skipped: {skip.reason}")
    for defect in planned.defects():
        print(f"missing here: {defect}")


@app.command(rich_help_panel=PANEL)
def why(
    study: StudyFile,
    cell: Annotated[str, typer.Argument(help="<dataset>/<encoder>/<loss>/<variant>/seed<k>")],
    data_root: DataRoot = None,
) -> None:
    """Say why a cell would be made again."""
    planned = planned_cell(study, cell, data_root)[1]
    print(f"{cell}: {'; '.join(planned.why()) or 'its record is current'}")


@app.command(rich_help_panel=PANEL)
def status(
    study: StudyArgument,
    complete: Annotated[
        Path | None, typer.Option(help="The file to write if all cells are current and none failed.")
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Look again and again until all is done; also writes live.html.")
    ] = False,
    every: Annotated[float, typer.Option(help="With --watch: seconds between two looks.", min=0.1)] = 10.0,
    log: Log = None,
    as_planned: AsPlanned = False,
) -> None:
    """Say how far a study is, and which cells failed; with --complete, end with exit code 1 unless all is done."""
    from mlcl.errors import FailedCellsError, MlclError
    from mlcl.records.collect import is_kept
    from mlcl.records.files import write_text
    from mlcl.records.status import study_status
    from mlcl.reporting.failures import listed, read_failures

    with logged(log):
        opened = open_current(study, as_planned=as_planned)
        if is_kept(opened):
            raise MlclError(f"{opened.paths.results}: holds kept results; 'mlcl coverage' says what is there")
        if watch:
            _watch(opened, every)
            return
        now = study_status(opened)
        say(f"{now.study}: {now.line()}")
        damaged = [f"  damaged: {damage}" for _, damage in now.damaged]
        failed = [f"  {cell}: {record.status}: {record.reason}" for cell, record in now.failures]
        if complete is None:
            print("\n".join([*damaged, *failed]), file=sys.stderr)
        elif failed:
            raise FailedCellsError(
                f"{len(failed)} of {now.counts.total} cells failed; the tables and the report show them, "
                "the same command with the target retry_failed ('snakemake retry_failed ...') makes them again:\n"
                + "\n".join(failed)
            )
        elif not now.counts.complete:
            not_complete = f"{now.study}: not complete: {now.counts}; run the study again"
            raise FailedCellsError("\n".join([not_complete, *damaged]))
        elif not_made := read_failures(opened.paths):
            raise MlclError(f"{now.study}: {NOT_MADE}:\n{listed(not_made)}")
        else:
            write_text(complete, f"{now.counts}\n")


@app.command(rich_help_panel=PANEL)
def show(
    record: Annotated[
        Path, typer.Argument(help="A record's folder, results/<study>/<cell>, or its metrics.json.")
    ],
) -> None:
    """Show one record in words: settings, how it ended, metrics, costs."""
    from mlcl.records.render import show as in_words

    print(in_words(record))


@app.command(rich_help_panel=PANEL)
def coverage(study: StudyArgument) -> None:
    """Show how much of a study is there, as a matrix; also while it runs."""
    from mlcl.records.coverage import coverage as coverage_of

    print(coverage_of(open_current(study)).render())


@app.command(rich_help_panel=PANEL)
def verify(study: StudyArgument) -> None:
    """Check every stored file of a study against its digest, and the metrics against the scores; exit code 1 if one
    is not what was written."""
    import json

    from mlcl.data import verify as of_data
    from mlcl.records import verify as of_records

    opened = open_current(study)
    found = list(of_records.defects(opened))
    for dataset in opened.outline.datasets:
        request = opened.paths.dataset_request(dataset)
        folder = (
            Path(json.loads(request.read_text(encoding="utf-8"))["prepared"]) if request.exists() else None
        )
        if folder is not None and folder.exists():
            found += of_data.defects(folder)
    for defect in found:
        print(defect)
    say(
        f"{opened.outline.study}: {len(found)} defects"
        if found
        else f"{opened.outline.study}: all is as written"
    )
    sys.exit(1 if found else 0)


def _watch(study: OpenStudy, every: float) -> None:
    """Shows where a study stands until nothing is left to do, or Ctrl-C."""
    from mlcl.records.live import Watcher, write_page

    watcher, page = Watcher(study), study.paths.live_page
    say(f"also as a page, {page}; Ctrl-C ends it")
    clear = "\x1b[H\x1b[J" if sys.stdout.isatty() else ""
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            look = watcher.look()
            write_page(look, page, every)
            print(f"{clear}{look.render()}", flush=True)
            if not look.status.counts.to_make and not look.running:
                return
            time.sleep(every)
