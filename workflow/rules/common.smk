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

from mlcl import handover
from mlcl.errors import MlclError
from mlcl.records.paths import BOOKKEEPING, PREPARED, CellId, StudyPaths
from mlcl.study.gpus import check_gpu_request, cpus_needed, gpus_needed, gres
from mlcl.study.runlock import RunLock, forget_unfinished
from mlcl.training.settings import CellSettings

from snakemake.logging import get_event, logger
from snakemake_interface_logger_plugins.common import LogEvent


wildcard_constraints:
    dataset=r"[^/]+",
    encoder=r"[^/]+",
    loss=r"[^/]+",
    variant=r"[^/]+",
    seed=r"\d+",


def stop(error):
    """Ends the run with one line; Snakemake would add a traceback to an exception."""
    sys.exit(f"mlcl: {error}")


def text_in_config(key):
    """What --config says of a key; Snakemake makes a number of what looks like one: 2024, 2023_10."""
    value = config.get(key)
    if value is not None and not isinstance(value, str):
        stop(
            f"--config {key}: Snakemake read the value as {value!r} ({type(value).__name__}), not as text; "
            f"a path may be written with ./ before it: {key}=./NAME"
        )
    return value


# Studies are chosen, never merged: Snakemake's own `configfile:` would let the default's losses leak in.
STUDY_FILE = Path(text_in_config("study") or "config/default.yaml")
DATA_ROOT = Path(given) if (given := text_in_config("data_root")) else None
DATA_ROOT_OPTION = f"--data-root {shlex.quote(str(DATA_ROOT))}" if DATA_ROOT else ""
RUN_LOCK = RunLock(BOOKKEEPING, STUDY_FILE.stem)
DRY_RUN = workflow.output_settings.dryrun

GPU_REQUEST = text_in_config("gpu_request")

if unknown := set(config) - {"study", "data_root", "gpu_request"}:
    stop(
        f"--config {min(unknown)}=...: unknown; what can be set there: study, data_root, gpu_request"
    )

# A job of a cluster starts Snakemake again, twice. It makes what it was asked for and plans nothing: what it needs to
# know stands in the request. What its inputs are, the main process has looked at.
IN_JOB = not workflow.is_main_process

if not IN_JOB and not DRY_RUN:
    if RUN_LOCK.try_take(stale_locks=Path(".snakemake/locks")):
        # What a killed run was updating; Snakemake would not start the update again.
        shutil.rmtree(".snakemake/backups", ignore_errors=True)
        forget_unfinished(Path(".snakemake/incomplete"), PREPARED)
    else:  # Snakemake's own message, which may follow, advises to remove the locks
        print(f"mlcl: {RUN_LOCK.refusal()}", file=sys.stderr)

if IN_JOB:
    STUDY, PATHS = STUDY_FILE.stem, StudyPaths(STUDY_FILE.stem)
else:
    from mlcl.study.estimate import training_passes
    from mlcl.study.plan import make_plan
    from mlcl.study.resources import ClusterResources

    try:
        if GPU_REQUEST is not None:
            check_gpu_request(GPU_REQUEST)
        PLAN = make_plan(STUDY_FILE, DATA_ROOT)
        if DRY_RUN:  # changes nothing, also if a run is at work
            REHEARSAL = tempfile.TemporaryDirectory(prefix="mlcl-dry-run-")
            PLAN = PLAN.rehearsal(Path(REHEARSAL.name))
        PLAN.write()
        CLUSTER = ClusterResources(PLAN, GPU_REQUEST)
        LENGTHS = training_passes(PLAN)
    except MlclError as error:
        stop(error)
    print(PLAN.summary(), file=sys.stderr)
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
    RUN_LOCK.take(run_starts=True)
    # With a limit of jobs in a time span, each look at the ready jobs asks for one more look a second later, and each
    # finished job adds a row of these that never ends: after a thousand jobs Snakemake keeps a core busy.
    workflow.scheduler.job_rate_limiter = None
    if workflow.local_exec:
        WORKERS.append(
            handover.start(BOOKKEEPING / "worker.socket", Path(workflow.basedir))
        )


def planned_cell(wildcards):
    return PLAN.by_id[CELL.format(**wildcards)]


def request_file(wildcards):
    return str(PATHS.request(CellId.parse(CELL.format(**wildcards))))


def request(wildcards):
    """What is asked of the cell; for one that waits for the search, the mark that its settings are chosen."""
    if IN_JOB:
        return request_file(wildcards)
    require_data()
    if planned_cell(wildcards).waits:
        return str(PATHS.searched(wildcards.dataset, wildcards.encoder, wildcards.loss))
    return request_file(wildcards)


def marks(wildcards):
    """The marks of all cells."""
    cells = [] if IN_JOB else PLAN.all_cells
    return [str(PATHS.done(cell.cell.id)) for cell in cells]


def trials(wildcards):
    """The marks of the trials among which the settings of a row are chosen."""
    row = (wildcards.dataset, wildcards.encoder, wildcards.loss)
    cells = [] if IN_JOB else PLAN.trials_of(*row)
    return [str(PATHS.done(cell.cell.id)) for cell in cells]


def prepared_card(wildcards):
    """The card of the prepared dataset; where the record is current and did not fail, no data is needed."""
    if IN_JOB:
        return []
    planned = planned_cell(wildcards)
    if planned.state == "current" and not planned.failed:
        return []
    return ancient(str(PLAN.datasets[wildcards.dataset].folder / "card.json"))


def prepared_cards(wildcards):
    if IN_JOB:
        return []
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
        stop(error)


def settings_of(wildcards):
    if not IN_JOB:
        return planned_cell(wildcards).cell.settings
    text = Path(request_file(wildcards)).read_text("utf-8")
    return CellSettings.model_validate(json.loads(text)["settings"])


def cell_cpus(wildcards):
    return cpus_needed(settings_of(wildcards))


BEFORE_CELLS = 10**15
"""The priority of what cells wait for: above the forward passes of any training."""


def cell_priority(wildcards):
    """Long cells first, so that at the end no long one runs alone; baselines fill the gap that is left."""
    return 0 if IN_JOB else LENGTHS[planned_cell(wildcards).cell.id]


def gpus_of(wildcards):
    """On a cluster the nodes' GPUs count, else those that this process sees; a job sees those that it was given."""
    if IN_JOB or workflow.local_exec:
        return gpus_needed(settings_of(wildcards))
    return CLUSTER.gpus(planned_cell(wildcards))


def cell_gpus(wildcards):
    return 0 if cell_gres(wildcards) else gpus_of(wildcards)


def cell_gres(wildcards):
    return gres(GPU_REQUEST, gpus_of(wildcards))


def on_cluster(name, otherwise):
    """A resource that a cluster's scheduler is asked for; on this machine, and in a job, nothing asks for it."""

    def resource(wildcards, attempt):
        if IN_JOB or workflow.local_exec:
            return otherwise
        return getattr(CLUSTER, name)(planned_cell(wildcards), attempt)

    return resource


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
