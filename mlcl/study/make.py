"""Makes what a study asks for: a request in, a prepared dataset or a record out.

What goes wrong inside a cell is a result too: the record says `diverged`, `oom` or `error`, and why. A new record is
made aside and takes the place of the old one when it is whole, so that a kill at any moment leaves a whole record.
"""

from __future__ import annotations

import contextlib
import csv
import ctypes
import json
import os
import platform
import resource
import shutil
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import astuple, dataclass, field, fields
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from filelock import FileLock, Timeout

import data_prep
import mlcl
from mlcl.errors import CellTakenError, ConfigError, OutdatedPlanError
from mlcl.records.code import write_definitions
from mlcl.records.files import atomic_file
from mlcl.records.live import PROGRESS
from mlcl.records.paths import CellId, StudyPaths
from mlcl.records.record import (
    EMBEDDINGS,
    HISTORY,
    MODEL,
    RECORD,
    SCORES,
    Metrics,
    Record,
    RecordSlot,
    Status,
    find_record,
    write_record,
)
from mlcl.records.rescore import SPLITS, metrics_of, write_scores
from mlcl.records.running import Running
from mlcl.records.tensorboard import write_curve
from mlcl.study import gpus
from mlcl.study.code import code_of
from mlcl.study.fingerprint import metrics_source
from mlcl.study.plan import read_request
from mlcl.study.progress import ProgressDisplay
from mlcl.training import protocols
from mlcl.training.settings import CellSettings

if TYPE_CHECKING:
    from mlcl.data import PreparedDataset
    from mlcl.training.job import Job
    from mlcl.training.outcome import Outcome

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
LARGEST_REUSED = 32 << 20
"""Bytes of the largest array whose memory is reused: the most that glibc allows."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
VERSIONS_OF = ("torch", "numpy", "scikit-learn", "transformers")


def prepare_dataset(request_file: Path) -> Path:
    """Prepares the dataset of a request, unless it is there; returns its folder."""
    request = json.loads(request_file.read_text(encoding="utf-8"))
    data_root, folder = Path(request["data_root"]), Path(request["prepared"])
    recipe = data_prep.plan(request["source"], request["settings"], data_root, request["accept_local"])
    if recipe.fingerprint != request["fingerprint"]:
        raise OutdatedPlanError(
            f"dataset {request['name']}: raw files or code changed after planning; start the run again"
        )
    data_prep.prepare(recipe, data_root, folder)
    return folder


def make_cell(request_file: Path, log: TextIO, wait: bool = True, job: Job | None = None) -> Record:
    """Makes the record of a requested cell, or returns the one that is there if it is what is asked for.

    Two processes may be asked for the same cell at once (one of them left behind by a run that was killed, or on
    another machine): the second waits for the first and takes over its record, or raises CellTakenError with
    `wait=False`.

    job: this process is the first of several that train the cell together; the others call `take_part`. Raises
    ConfigError where the cell asks for another number of processes.
    """
    request = read_request(request_file)
    paths, cell = StudyPaths(request["study"]), CellId.parse(request["cell"])
    if job is not None:
        _require_suitable(CellSettings.model_validate(request["settings"]), cell, job)
    unfinished = paths.unfinished(cell)
    with _file_lock(request_file.with_name("cell.lock"), wait), Running(unfinished, wait):
        slot = RecordSlot(paths.cell(cell), unfinished)
        slot.recover(request["fingerprint"], request["attempt"])
        record = find_record(paths.record(cell), cell).record
        if record and record.fingerprint == request["fingerprint"] and record.attempt >= request["attempt"]:
            shutil.rmtree(unfinished, ignore_errors=True)
            return record
        settings = CellSettings.model_validate(request["settings"])
        gpu_locks = paths.bookkeeping / "gpus"
        maker = _Maker(request, settings, slot, paths, cell, log, job)
        if (equal := maker.find_equal()) is not None:
            return maker.copy(equal)
        if job is not None:  # the launcher says which process uses which GPU
            return maker.make()
        with gpus.reserve_gpus(settings, gpu_locks):
            return maker.make()


def report_curve(request_file: Path) -> None:
    """Hands the curve of a cell's record to what its study reports to, if it asks for that."""
    request = json.loads(request_file.read_text(encoding="utf-8"))
    if request.get("report_to") == "tensorboard":
        write_curve(StudyPaths(request["study"]), CellId.parse(request["cell"]))


def take_part(job: Job) -> int:
    """The part of a process of a job, other than the first, in the cell that the first makes; returns the exit code of
    the first. Raises Interrupted if the first is gone."""
    task = job.wait_for_task()
    if task is not None:
        limit_threads(CellSettings.model_validate_json(task.settings_json).compute.threads)
        from mlcl.training import launch

        launch.take_part(job, task)
    return job.wait_for_end()


def _require_suitable(settings: CellSettings, cell: CellId, job: Job) -> None:
    asked, started = settings.compute.processes, job.place.size
    if asked != started:
        raise ConfigError(
            f"{cell}: compute.processes is {asked}, but {started} processes were started; start {asked}, or set "
            f"compute.processes: {started}"
        )
    if settings.encoder is not None and settings.encoder.settings["freeze"]:
        raise ConfigError(
            f"{cell}: of a frozen encoder only a small adapter is trained, for which one process is enough; start "
            "one, and set compute.processes: 1"
        )


@contextlib.contextmanager
def _file_lock(file: Path, wait: bool) -> Iterator[None]:
    lock = FileLock(file)
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        raise CellTakenError(f"{file}: another process makes the cell") from None
    try:
        yield
    finally:
        lock.release()


@dataclass(frozen=True)
class _Maker:
    request: Mapping[str, Any]
    settings: CellSettings
    slot: RecordSlot
    paths: StudyPaths
    cell: CellId
    log: TextIO
    job: Job | None = None

    def make(self) -> Record:
        limit_threads(self.settings.compute.threads)
        keep_freed_memory()
        checkpoints = self._checkpoints()
        self.slot.clear()
        begun, begun_cpu = time.perf_counter(), _cpu_seconds()
        attempt = self._attempt(checkpoints)
        dataset, outcome, training = attempt.dataset, attempt.outcome, self.settings.training
        result = {
            "study": self.request["study"],
            "id": self.request["cell"],
            "fingerprint": self.request["fingerprint"],
            **self.request["made_of"],
            "dataset": {
                "name": self.cell.dataset,
                "fingerprint": self.request["made_of"]["dataset_fingerprint"],
                "content_sha256": dataset.card["content_sha256"] if dataset else None,
                "examples": outcome.examples if outcome else None,
            },
            "status": attempt.status,
            "reason": attempt.reason,
            "selection": protocols.selection(training) if training else None,
            "diagnostics": attempt.diagnostics,
            "metrics": attempt.metrics,
            "metrics_source": metrics_source(),
        }
        seconds, cpu_seconds = time.perf_counter() - begun, _cpu_seconds() - begun_cpu
        if outcome is not None and outcome.fitted is not None:
            seconds += outcome.fitted.earlier_seconds
            cpu_seconds += outcome.fitted.earlier_cpu_seconds
        run = _run_block(self.settings, outcome, seconds, cpu_seconds)
        record = Record(result, {"attempt": self.request["attempt"], **run})
        if (
            attempt.status != "ok"
        ):  # before the record: the next attempt starts over, not where this one ended
            shutil.rmtree(checkpoints, ignore_errors=True)
        return self._put(record, dataset)

    def find_equal(self) -> Path | None:
        """The folder of the same cell of another study here, if its record has the fingerprint that is asked for.

        None also where the model is kept, which names its study.
        """
        if self.settings.keep_model:
            return None
        for other in sorted(self.paths.results.parent.glob(f"[!.]*/{self.cell}/{RECORD}")):
            record = find_record(other).record if other.parent != self.paths.cell(self.cell) else None
            if (
                record is not None
                and record.fingerprint == self.request["fingerprint"]
                and record.status == "ok"
            ):
                return other.parent
        return None

    def copy(self, equal: Path) -> Record:
        """The record in the folder `equal`, with this study's name. Equal fingerprints lead to equal results."""
        other = find_record(equal / RECORD).record
        assert other is not None
        dataset = self._open_dataset()
        self.slot.clear()
        for name in (SCORES, HISTORY, EMBEDDINGS):
            if (equal / name).exists():
                shutil.copyfile(equal / name, self.slot.new / name)
        own = {"study": self.request["study"], "id": self.request["cell"]}
        named = {"dataset": other.result["dataset"] | {"name": self.cell.dataset}}
        run = {"attempt": self.request["attempt"], "copied_from": other.result["study"]}
        record = Record(other.result | own | named, other.run | run)
        if record.result["metrics_source"] != metrics_source():
            record = record.with_metrics(
                metrics_of(self.slot.new, dataset.folder / "card.json"), metrics_source()
            )
        return self._put(record, dataset)

    def _put(self, record: Record, dataset: PreparedDataset | None) -> Record:
        """The new record, whose other files are there, and what belongs to it, in their place."""
        code = code_of(self.settings)
        write_definitions(self.paths.results, code.digest, code.definitions)
        write_record(self.slot.new / RECORD, record)
        if dataset is not None:
            self._put_card(dataset)
        self.slot.replace()
        shutil.rmtree(self.paths.unfinished(self.cell), ignore_errors=True)
        return record

    def _checkpoints(self) -> Path:
        """The folder for the state of unfinished training, one for each fingerprint.

        Shared by all attempts, because after a killed retry the next plan starts again from attempt 1. Those of
        other fingerprints stay until a record is made: a setting that is changed and changed back costs nothing.
        """
        folder = self.paths.unfinished(self.cell) / f"checkpoints-{self.request['fingerprint'][:12]}"
        for temporary in folder.glob(".*"):  # left by a kill while it was written
            temporary.unlink()
        return folder

    def _put_card(self, dataset: PreparedDataset) -> None:
        """A copy of the dataset's card beside the records, so that these can be reported on without the data."""
        card, copy = dataset.folder / "card.json", self.paths.card(self.cell.dataset)
        if not copy.exists() or copy.read_bytes() != card.read_bytes():
            with atomic_file(copy) as temporary:
                shutil.copyfile(card, temporary)

    def _attempt(self, checkpoints: Path) -> _Attempt:
        """Trains, evaluates and writes the files beside the record; whatever fails becomes a status and a reason.

        Raises only what is no result: Interrupted, since the cell goes on when it is asked for again, and
        OutdatedPlanError.
        """
        dataset = None
        try:
            dataset = self._open_dataset()
            outcome = self._train(dataset, checkpoints)
            metrics = self._write_outcome(dataset, outcome)
            return _Attempt("ok", None, dataset, outcome, metrics, _diagnostics(outcome))
        except OutdatedPlanError:
            raise
        except Exception as error:
            status = _status_of(error)
            self.slot.clear()
            if status == "error":
                with contextlib.suppress(OSError):  # a full disk, or a terminal that is gone
                    traceback.print_exc(file=self.log)
            reason = str(error) if status == "diverged" else _one_line(error)
            return _Attempt(status, reason, dataset)

    def _open_dataset(self) -> PreparedDataset:
        from mlcl.data import open_dataset

        dataset = open_dataset(Path(self.request["prepared"]))
        if dataset.fingerprint != self.request["made_of"]["dataset_fingerprint"]:
            raise OutdatedPlanError(
                f"{dataset.folder}: is not the dataset that was planned; start the run again"
            )
        return dataset

    def _train(self, dataset: PreparedDataset, checkpoints: Path) -> Outcome:
        import numpy as np

        from mlcl.training import launch
        from mlcl.training.events import Diverged

        gpus.require_assigned_gpus(self.settings)
        with ProgressDisplay(self.log, self.paths.unfinished(self.cell) / PROGRESS) as display:
            arguments = (self.settings, dataset, display.report, checkpoints)
            outcome = launch.train_in_job(self.job, *arguments) if self.job else launch.train(*arguments)
        if not all(np.isfinite(s).all() for splits in outcome.scores.values() for s in splits.values()):
            raise Diverged("the scores are not finite")
        return outcome

    def _write_outcome(self, dataset: PreparedDataset, outcome: Outcome) -> Metrics:
        """The files beside the record, and the metrics that follow from them."""
        import numpy as np

        folder = self.slot.new
        labels = {split: dataset[split].dense_labels(outcome.rows[split]) for split in SPLITS}
        ids = {split: np.asarray(dataset[split].ids)[outcome.rows[split]] for split in SPLITS}
        write_scores(folder / SCORES, outcome.scores, labels, ids)
        if self.settings.keep_embeddings and outcome.features:
            features = {split: values.astype(np.float16) for split, values in outcome.features.items()}
            np.savez_compressed(folder / EMBEDDINGS, allow_pickle=False, **features)
        if self.settings.keep_model and outcome.fitted is not None:
            self._keep_model(dataset, outcome)
        curve = outcome.fitted.curve if outcome.fitted else []
        if curve:
            with (folder / HISTORY).open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(field.name for field in fields(curve[0]))
                writer.writerows(astuple(line) for line in curve)
        return metrics_of(folder, dataset.folder / "card.json")

    def _keep_model(self, dataset: PreparedDataset, outcome: Outcome) -> None:
        from mlcl.model.folder import save

        made_by = {key: self.request[key] for key in ("study", "cell", "fingerprint")}
        folder = self.slot.new / MODEL
        folder.mkdir()
        save(self.settings, dataset, outcome, folder, made_by)


@dataclass(frozen=True)
class _Attempt:
    """How training and evaluation ended; without outcome and metrics unless `status` is `ok`."""

    status: Status
    reason: str | None
    dataset: PreparedDataset | None
    outcome: Outcome | None = None
    metrics: Metrics = field(default_factory=dict)
    diagnostics: dict[str, Any] = field(default_factory=dict)


def _diagnostics(outcome: Outcome) -> dict[str, Any]:
    """What training measured, and how well its rows are fitted."""
    from mlcl.training.diagnostics import of_fit

    if outcome.fit_rows is None:
        return outcome.diagnostics
    return {**outcome.diagnostics, "fit": of_fit(*outcome.fit_rows)}


def _status_of(error: Exception) -> Status:
    """Raises `error` again if it is no result: an interrupted cell goes on when it is asked for again."""
    from mlcl.training.events import Diverged, Interrupted

    match error:
        case Interrupted():
            raise error
        case Diverged():
            return "diverged"
    is_oom = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"  # torch's, on a GPU
    # On the CPU torch's allocator raises a RuntimeError that says so.
    return "oom" if is_oom or "can't allocate memory" in str(error) else "error"


def limit_threads(threads: int) -> None:
    """To be called before numpy and torch are imported: their thread pools read the environment then."""
    for variable in THREAD_VARIABLES:
        os.environ[variable] = str(threads)


def keep_freed_memory() -> None:
    """Tells the C library to reuse the memory of freed arrays instead of giving it back to the system (glibc only).

    A training step frees all that it allocated. By default most of these pages go back, and the next step gets new
    ones, which the kernel has to map and to fill with zeros: a sixth of the CPU time of a small convolutional net.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:  # others than glibc have none, or ignore it
        mallopt(_M_MMAP_THRESHOLD, LARGEST_REUSED)
        mallopt(_M_TRIM_THRESHOLD, -1)  # never


def _cpu_seconds() -> float:
    """Of this process and of those that it started and that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]


def _run_block(
    settings: CellSettings, outcome: Outcome | None, seconds: float, cpu_seconds: float
) -> dict[str, Any]:
    """Where, when and at what cost: never compared."""
    block: dict[str, Any] = {
        "wall_seconds": round(seconds, 3),
        "cpu_seconds": round(cpu_seconds, 3),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **run_facts(),
        **_device(settings),
    }
    if outcome is not None:
        block |= outcome.throughput
    return block


@cache
def run_facts() -> dict[str, Any]:
    """The machine and the code of this process; a warm worker asks before it forks, when it has loaded the code."""
    return {
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in VERSIONS_OF} | {"mlcl": mlcl.__version__},
        "commit": _commit(),
    }


def _device(settings: CellSettings) -> dict[str, Any]:
    """The device's name; None where it cannot be asked: a defective GPU must not cost the record that says so."""
    try:
        import torch

        from mlcl.training.distributed import select_device

        device = select_device(settings.compute)
        if device.type != "cuda":
            return {"device": "cpu"}
        peak = torch.cuda.max_memory_allocated() / 2**20
        return {"device": torch.cuda.get_device_name(), "peak_device_memory_mb": round(peak, 1)}
    except Exception:
        return {"device": None}


def _commit() -> str | None:
    """The commit of the working tree, with a mark if it differs from it; None outside a repository."""
    run: Callable[..., Any] = subprocess.run
    try:
        described = run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude", "*"],
            cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return str(described.stdout.strip())
