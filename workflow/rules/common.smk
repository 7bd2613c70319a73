"""The study that was asked for, planned; what the rules look up in the plan."""

import json
import logging
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

# The workflow runs the package that lies beside it with the Python that runs the workflow, whatever else is
# installed and whether or not the environment is activated.
sys.path.insert(0, workflow.basedir)
# Snakemake's own prefix, which stops at the first failure, is replaced by this one.
shell.prefix(
    "set -euo pipefail; "
    f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH "
    f"PYTHONPATH={shlex.quote(str(workflow.basedir))}${{{{PYTHONPATH:+:$PYTHONPATH}}}}; "
)

from mlcl import worker
from mlcl.errors import MlclError
from mlcl.records.paths import BOOKKEEPING, PREPARED
from mlcl.study import gpus
from mlcl.study.plan import make_plan
from mlcl.study.runlock import RunLock

from snakemake.exceptions import WorkflowError
from snakemake.logging import get_event, logger
from snakemake_interface_logger_plugins.common import LogEvent


wildcard_constraints:
    dataset=r"[^/]+",
    encoder=r"[^/]+",
    loss=r"[^/]+",
    variant=r"[^/]+",
    seed=r"\d+",


# Studies are chosen, never merged: Snakemake's own `configfile:` would let the default's losses leak in.
STUDY_FILE = Path(config.get("study", "config/default.yaml"))
DATA_ROOT = Path(config["data_root"]) if config.get("data_root") else None
RUN_LOCK = RunLock(BOOKKEEPING)
DRY_RUN = workflow.output_settings.dryrun

if unknown := set(config) - {"study", "data_root"}:
    raise WorkflowError(
        f"--config {min(unknown)}=...: unknown; what can be set there: study, data_root"
    )

if workflow.is_main_process and not DRY_RUN:
    if RUN_LOCK.try_take(stale_locks=Path(".snakemake/locks")):
        # What a killed run was updating; Snakemake would not start the update again.
        shutil.rmtree(".snakemake/backups", ignore_errors=True)

try:
    PLAN = make_plan(STUDY_FILE, DATA_ROOT)
    if workflow.is_main_process:
        if DRY_RUN:  # changes nothing, also if a run is at work
            REHEARSAL = tempfile.TemporaryDirectory(prefix="mlcl-dry-run-")
            PLAN = PLAN.rehearsal(Path(REHEARSAL.name))
        PLAN.write()
        print(PLAN.summary(), file=sys.stderr)
except MlclError as error:
    raise WorkflowError(str(error))

STUDY, PATHS = PLAN.study.name, PLAN.paths
ENVIRONMENT = str(Path(workflow.basedir) / "environment.yml")
ROW = "{dataset}/{encoder}/{loss}"
CELL = "{dataset}/{encoder}/{loss}/{variant}/seed{seed}"


class WithoutJobInfo(logging.Filter):
    """Leaves out Snakemake's block about each job, since each command says in a line or two what it made."""

    def filter(self, record):
        return get_event(record) not in (LogEvent.JOB_INFO, LogEvent.GROUP_INFO)


if not workflow.output_settings.verbose:
    for handler in logger.handlers:
        handler.addFilter(WithoutJobInfo())


WORKERS = []
"""Kept while the run lives: a worker ends when it is let go."""


onstart:
    RUN_LOCK.take()
    if workflow.local_exec:
        WORKERS.append(worker.start(BOOKKEEPING / "worker.socket", Path(workflow.basedir)))


def planned_cell(wildcards):
    return PLAN.by_id[CELL.format(**wildcards)]


def request(wildcards):
    """What is asked of the cell; for one that waits for the search, the mark that its settings are chosen."""
    require_data()
    cell = planned_cell(wildcards)
    if cell.waits:
        return str(PATHS.searched(wildcards.dataset, wildcards.encoder, wildcards.loss))
    return str(PATHS.request(cell.cell.id))


def request_file(wildcards):
    return str(PATHS.request(planned_cell(wildcards).cell.id))


def trials(wildcards):
    """The marks of the trials among which the settings of a row are chosen."""
    row = (wildcards.dataset, wildcards.encoder, wildcards.loss)
    return [str(PATHS.done(trial.cell.id)) for trial in PLAN.trials_of(*row)]


def prepared_card(wildcards):
    """The card of the prepared dataset; where the record is current and did not fail, no data is needed."""
    planned = planned_cell(wildcards)
    if planned.state == "current" and not planned.failed:
        return []
    return ancient(str(PLAN.datasets[wildcards.dataset].folder / "card.json"))


def prepared_cards(wildcards):
    require_data()
    return [
        ancient(str(dataset.folder / "card.json")) for dataset in PLAN.datasets.values()
    ]


def require_data():
    """Stops the run if raw files are missing; called only where they are needed.

    An exception in an input function would be buried in Snakemake's report on it.
    """
    try:
        PLAN.require_data()
    except MlclError as error:
        sys.exit(f"mlcl: {error}")


def cell_threads(wildcards):
    return planned_cell(wildcards).cell.settings.compute.threads


def cell_gpus(wildcards):
    return gpus.gpus_needed(planned_cell(wildcards).cell.settings)


def dataset_request(wildcards):
    return str(PATHS.dataset_request(wildcards.dataset))


def complete_after_retry(wildcards):
    """Asks for the failed cells once more, and for all that follows from them."""
    PLAN.write(retry_failed=True)
    return str(PATHS.complete)


class TableCaptions:
    """table -> caption, looked up when Snakemake's report is made: no rule knows which tables there will be."""

    def __init__(self, folder):
        self.folder = folder

    def __getitem__(self, table):
        return (self.folder / f"{table}.md").read_text("utf-8").partition("\n")[0]

    def __repr__(self):
        return f"in {self.folder}"


class FigureCaptions(TableCaptions):
    """figure -> caption"""

    def __getitem__(self, figure):
        return self.entry(figure)["caption"]

    def entry(self, figure):
        index = json.loads((self.folder / "index.json").read_text("utf-8"))
        return next(entry for entry in index if entry["name"] == figure)


def figure_labels(wildcards):
    entry = FigureCaptions(PATHS.figures).entry(wildcards.figure)
    return {"Figure": entry["title"], "Kind": entry["kind"]}
