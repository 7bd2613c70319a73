"""From a study to records: the steps of the workflow, and what keeps records of changed code."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mlcl.cli.common import (
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
from mlcl.training.job import JOIN_TIMEOUT

if TYPE_CHECKING:
    from mlcl.records.record import Record

PANEL = "Make records"
CELL_TAKEN = 75  # os.EX_TEMPFAIL, which other systems do not have


@app.command(rich_help_panel=PANEL)
def prepare(
    target: Annotated[
        Path, typer.Argument(help="A study file, or a dataset's request as the workflow writes it.")
    ],
    data_root: DataRoot = None,
    log: Log = None,
) -> None:
    """Prepare the datasets of a study."""
    from mlcl.study.make import prepare_dataset
    from mlcl.study.plan import make_plan

    with logged(log):
        if target.suffix == ".json":
            say(f"preparing {target.parent.name}")
            _say_found(prepare_dataset(target))
            return
        planned = make_plan(target, data_root)
        planned.require_data()
        planned.write()
        for name in planned.datasets:
            say(f"preparing {name}")
            folder = prepare_dataset(planned.paths.dataset_request(name))
            _say_found(folder)
            say(f"  it lies in {folder}")


@app.command(rich_help_panel=PANEL)
def train(
    target: Annotated[
        Path, typer.Argument(help="A study file, or a cell's request as the workflow writes it.")
    ],
    cell: Annotated[str | None, typer.Argument(help="With a study file: the cell to make.")] = None,
    data_root: DataRoot = None,
    log: Log = None,
    wait: Annotated[
        bool,
        typer.Option(hidden=True, help="Wait where another process makes the cell, or end with code 75."),
    ] = True,
    join_timeout: Annotated[
        float,
        typer.Option(help="Started by torchrun or srun: seconds within which all processes must have come."),
    ] = JOIN_TIMEOUT,
) -> None:
    """Make the record of one cell: train, evaluate, write. A record that is current is left as it is.

    Started by torchrun or srun in as many processes as compute.processes says, on one machine or several, all of them
    train the cell together.
    """
    from mlcl.errors import CellTakenError
    from mlcl.study.make import make_cell, prepare_dataset, report_curve, take_part
    from mlcl.training.job import Job, find_place

    with contextlib.ExitStack() as stack:
        place = find_place()
        job = stack.enter_context(Job(place, join_timeout)) if place is not None else None
        if job is not None and not job.leads:
            sys.exit(take_part(job))
        log_file = stack.enter_context(logged(log, append=True))
        if target.suffix != ".json":
            if cell is None:
                raise typer.BadParameter("with a study file, name the cell to make")
            planned_study, planned = planned_cell(target, cell, data_root)
            planned_study.require_data()
            planned_study.write()
            prepare_dataset(planned_study.paths.dataset_request(planned.cell.id.dataset))
            target = planned_study.paths.request(planned.cell.id)
        try:
            record = make_cell(target, log_file, wait, job)
        except CellTakenError:
            sys.exit(CELL_TAKEN)
        try:
            report_curve(target)
        except Exception as error:  # the record is there; the report makes up for it
            say(f"{record.result['id']}: its learning curve could not be written: {error}")
        _say_finished(record)


@app.command(rich_help_panel=PANEL)
def work(
    study: StudyFile,
    data_root: DataRoot = None,
    jobs: Annotated[
        int | None,
        typer.Option(help="Cells at once. Default: as many as this machine's cores or GPUs allow.", min=1),
    ] = None,
) -> None:
    """Make a study's cells together with every other 'mlcl work' on it, here and on machines that share this folder."""
    from mlcl import work as working
    from mlcl.records.status import study_status

    finished = working.work(study, data_root, jobs, CELL_TAKEN)
    status = study_status(finished)
    say(f"{finished.outline.study}: {status.line()}")
    if status.counts.current:
        say(f"next: mlcl report {study} --all")


@app.command(rich_help_panel=PANEL)
def choose(
    study: StudyFile,
    row: Annotated[str, typer.Argument(help="<dataset>/<encoder>/<loss>")],
    data_root: DataRoot = None,
    log: Log = None,
) -> None:
    """Choose among the trials of a row, and request its cells: the workflow's step between search and seeds."""
    from mlcl.reporting.metric_info import metric_info
    from mlcl.study.plan import make_plan

    with logged(log):
        dataset, encoder, loss = row.split("/")
        planned = make_plan(study, data_root)
        choice = planned.write_chosen(dataset, encoder, loss)
        settings = ", ".join(f"{key} = {value}" for key, value in choice.trial.settings.items())
        edges = f"; at an end of its range: {', '.join(choice.edges)}" if choice.edges else ""
        search = planned.outline().search
        assert search is not None
        metric = metric_info(search.metric)
        say(
            f"{row}: chosen: {settings} ({choice.trial.id.variant} of {search.trials} trials, with {metric.title} "
            f"{choice.value * metric.scale:.{metric.decimals}f} on validation{edges})"
        )


@app.command(rich_help_panel=PANEL)
def evaluate(study: StudyArgument) -> None:
    """Compute the metrics of all records anew from their stored scores, where the metrics' code changed."""
    from mlcl.records.rescore import rescore_study

    changed = rescore_study(open_current(study, write=True))
    say(f"{changed} records scored anew")


@app.command(rich_help_panel=PANEL)
def adopt(
    study: StudyFile,
    data_root: DataRoot = None,
    sample: Annotated[
        Literal["some", "all"],
        typer.Option(help="Make one cell of each kind again and what else changed code asks for, or all."),
    ] = "some",
    within: Annotated[
        float | None,
        typer.Option(
            help="How far results may lie apart, such as 1e-4 on a GPU. Default: not at all.", min=0
        ),
    ] = None,
    log: Log = None,
) -> None:
    """Keep records that are stale for changed code alone, if a sample of them gives the same results again."""
    from mlcl.records.paths import BOOKKEEPING
    from mlcl.study import adopt as adopting
    from mlcl.study.plan import make_plan
    from mlcl.study.runlock import RunLock

    with logged(log):
        planned = make_plan(study, data_root)
        planned.require_data()
        RunLock(BOOKKEEPING, planned.study.name).take()
        planned.write()
        training_log = log.with_suffix(".training.log") if log else planned.paths.logs / "adopt.log"
        training_log.parent.mkdir(parents=True, exist_ok=True)
        adopted = adopting.adopt(planned, say, training_log, sample == "all", within)
        make_plan(study, data_root).write()
        say(f"{planned.study.name}: {adopted.render()}")


def _say_finished(record: Record) -> None:
    """Never fails: the record is written, and the job must not count as failed for a line that cannot be printed."""
    from mlcl.records.paths import CellId
    from mlcl.records.status import line_if_due

    with contextlib.suppress(Exception):
        study = record.result["study"]
        # Of a trial of a search only validation is shown: whoever watches is to choose nothing by the test split.
        split = "val" if CellId.parse(record.result["id"]).is_trial else "test"
        scores = {readout: splits[split].get("map") for readout, splits in record.metrics.items()}
        what = record.status if record.reason is None else f"{record.status}: {record.reason}"
        if told := ", ".join(f"{name} {score:.3f}" for name, score in scores.items() if score is not None):
            what = f"{split} map: {told}"
        say(f"{record.result['id']}: {what} ({record.run['wall_seconds']:.0f} s)")
        if (line := line_if_due(study)) is not None:
            say(f"{study}: {line}")


def _say_found(folder: Path) -> None:
    """The sanity report of a prepared dataset."""
    from data_prep import sanity

    for sentence in sanity.report(folder):
        say(f"  {sentence}")
