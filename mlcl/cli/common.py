"""What the commands share: the application, their arguments, the log, and how a study is opened."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

if TYPE_CHECKING:
    from mlcl.records.outline import OpenStudy
    from mlcl.study.plan import Plan, PlannedCell

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Multi-label contrastive learning: benchmark and reproduction suite.",
)

StudyArgument = Annotated[
    str, typer.Argument(help="A study file, the name of a study in results/, or a results folder anywhere.")
]
KeepGoing = Annotated[
    bool,
    typer.Option(help="End well although a table or figure failed; 'status --complete' will not."),
]
AsPlanned = Annotated[
    bool,
    typer.Option(
        "--as-planned", hidden=True, help="Take the study as the run planned it, without planning it again."
    ),
]
StudyFile = Annotated[Path, typer.Argument(help="A study file, such as config/default.yaml.")]
DataRoot = Annotated[Path | None, typer.Option(help="Where raw files lie. Default: $MLCL_DATA_ROOT or raw/.")]
Log = Annotated[Path | None, typer.Option(help="Also write what happens, and any traceback, to this file.")]
NOT_MADE = "some tables or figures failed; the others were made, and the log has the tracebacks"


@app.callback()
def options(
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Also print what the code logs (level INFO).")
    ] = False,
) -> None:
    import logging

    if not verbose:
        # Without a network the hub's client tells of each of its six attempts; what follows says it once.
        os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    for package in ("mlcl", "data_prep"):
        logging.getLogger(package).setLevel(logging.INFO if verbose else logging.WARNING)


def planned_cell(study: Path, cell: str, data_root: Path | None) -> tuple[Plan, PlannedCell]:
    from mlcl.errors import ConfigError
    from mlcl.study.plan import make_plan
    from mlcl.suggest import closest

    planned = make_plan(study, data_root)
    if cell not in planned.by_id:
        raise ConfigError(f"{study}: has no cell '{cell}'; {closest(cell, planned.by_id)}")
    return planned, planned.by_id[cell]


def open_current(study: str, write: bool = False, as_planned: bool = False) -> OpenStudy:
    """The study as its file is now. A results folder that lies elsewhere is taken as it was planned there.

    With `write`, what follows from the plan is written too, so that files made next fit together.
    """
    from mlcl.records.outline import OpenStudy, open_study

    if study.endswith((".yaml", ".yml")):
        file = Path(study)
    else:
        opened = open_study(study)
        file = Path(opened.outline.file)
        if as_planned or opened.paths.folder is not None or not file.is_file():
            return opened
    from mlcl.study.plan import make_plan

    # With the data root of the last run, without which current records could not be told from stale ones.
    planned = make_plan(file, as_before=True)
    if write:
        planned.write_outline()
    return OpenStudy(planned.outline(), planned.paths)


@contextlib.contextmanager
def logged(log: Path | None, append: bool = False) -> Iterator[TextIO]:
    """A file for what is too long for the screen; a traceback goes there too. Without one: stderr.

    append: keep what the file holds, below which a line says who goes on. A cell that is resumed has one log, and a
    second process that is asked for it does not cut off that of the first.
    """
    if log is None:
        yield sys.stderr
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    if append and not log.exists():
        # Snakemake removes a job's log before it starts the job; what it removes is a link to the log.
        with contextlib.suppress(FileExistsError):
            log.symlink_to(f".{log.name}")
    with log.open("a" if append else "w", encoding="utf-8") as file:
        if append:
            job = f", job {job_id}" if (job_id := os.environ.get("SLURM_JOB_ID")) else ""
            begun = time.strftime("%Y-%m-%d %H:%M:%S %z")
            print(f"== {begun}, {socket.gethostname()}, process {os.getpid()}{job}", file=file, flush=True)
        try:
            yield file
        except Exception as error:
            from mlcl.training.events import Interrupted

            if isinstance(error, Interrupted):
                print(error, file=file)
            else:
                traceback.print_exc(file=file)
            raise


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
