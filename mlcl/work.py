"""Several processes make one study: on one machine, or on several that share the folder. None of them leads.

Each takes a cell that is free and makes it by the train command, which keeps a mark on the cell that other machines see
(`mlcl.records.running`). A cell that another process makes is passed over, and looked at again later: the mark of a
machine that died counts for nothing after a while, and whoever comes by first makes the cell. A process ends when every
cell has its record. Snakemake, afterwards, finds nothing left but the report.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from filelock import FileLock

from mlcl import handover
from mlcl.errors import MlclError
from mlcl.machine import cores
from mlcl.records.outline import OpenStudy
from mlcl.records.paths import BOOKKEEPING
from mlcl.records.record import find_record
from mlcl.records.running import LOOK_AGAIN, running_since
from mlcl.study.estimate import training_passes
from mlcl.study.gpus import cpus_needed, gpus_needed, visible
from mlcl.study.make import prepare_dataset
from mlcl.study.plan import Plan, PlannedCell, make_plan
from mlcl.study.runlock import RunLock
from mlcl.training.job import without_place


def work(study: Path, data_root: Path | None, jobs: int | None, taken: int) -> OpenStudy:
    """Returns when each cell of the study has its record, whoever made it.

    jobs: cells at once; None: as many as the cores, or the GPUs, of this machine allow. taken: the exit code by which
    the train command says that another process makes the cell. Raises MlclError where raw files are missing or a
    Snakemake run is at work at this study in the folder, and at the end if processes of cells ended without a record.
    """
    done: set[str] = set()
    with _warm_worker():
        while True:  # again where a search had to be finished before its cells could be asked for
            planned = _planned(study, data_root)
            passes = training_passes(planned)
            todo = [p for p in planned.all_cells if p.state != "current" and not p.waits]
            todo = [p for p in todo if str(p.cell.id) not in done]
            if not todo:
                return OpenStudy(planned.outline(), planned.paths)
            todo.sort(key=lambda cell: -passes[cell.cell.id])
            _Work(planned, todo, taken).run(jobs or _places(todo))
            done |= {str(p.cell.id) for p in todo}


def _planned(study: Path, data_root: Path | None) -> Plan:
    """The plan, its requests written and its datasets prepared."""
    planned = make_plan(study, data_root)
    planned.require_data()
    lock = RunLock(BOOKKEEPING, planned.study.name)
    lock.take_beside_others()
    try:
        planned.write()
    finally:
        lock.release()
    with FileLock(BOOKKEEPING / "prepare.lock"):
        for dataset in planned.datasets:
            prepare_dataset(planned.paths.dataset_request(dataset))
    return planned


def _places(cells: list[PlannedCell]) -> int:
    """How many of these cells this machine can make at once."""
    settings = [planned.cell.settings for planned in cells]
    places = cores() // max(map(cpus_needed, settings))
    if gpus := max(map(gpus_needed, settings)):
        places = min(places, len(visible()) // gpus)
    return max(1, places)


@contextmanager
def _warm_worker() -> Iterator[None]:
    name = f"work-{socket.gethostname()}-{os.getpid()}.socket"
    BOOKKEEPING.mkdir(parents=True, exist_ok=True)
    worker = handover.start(BOOKKEEPING / name, Path(__file__).parents[1])
    try:
        yield
    finally:
        if worker is not None and worker.stdin is not None:
            worker.stdin.close()
            worker.wait()


class _Work:
    """The cells that are left, and the processes that make some of them."""

    def __init__(self, plan: Plan, todo: list[PlannedCell], taken: int) -> None:
        self._plan, self._todo, self._taken = plan, list(todo), taken
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._failed: list[str] = []
        """Cells whose process ended without a record, in words."""
        self._stopped = threading.Event()
        self._lock = threading.Lock()

    def run(self, jobs: int) -> None:
        before = signal.signal(signal.SIGTERM, self._stop)
        try:
            with ThreadPoolExecutor(jobs) as pool:
                try:
                    for place in [pool.submit(self._place) for _ in range(jobs)]:
                        place.result()
                except BaseException:
                    self._stopped.set()
                    raise
        finally:
            signal.signal(signal.SIGTERM, before)
        if self._stopped.is_set():
            sys.exit(128 + signal.SIGTERM)
        if self._failed:
            raise MlclError("\n".join(["processes ended without a record:", *self._failed]))

    def _stop(self, number: int, frame: FrameType | None) -> None:
        """SIGTERM: the processes of cells save their state and end."""
        self._stopped.set()
        for process in list(self._processes):
            process.terminate()

    def _place(self) -> None:
        """Makes one cell after the other, until none is left."""
        while not self._stopped.is_set():
            with self._lock:
                planned = next((p for p in self._todo if self._is_free(p)), None)
                if planned is not None:
                    self._todo.remove(planned)
                elif not self._todo:
                    return
            if planned is None:
                self._stopped.wait(LOOK_AGAIN)
            elif not self._is_made(planned) and self._train(planned) == self._taken:
                with self._lock:
                    self._todo.append(planned)

    def _is_free(self, planned: PlannedCell) -> bool:
        return running_since(self._plan.paths.unfinished(planned.cell.id)) is None

    def _is_made(self, planned: PlannedCell) -> bool:
        cell = planned.cell.id
        record = find_record(self._plan.paths.record(cell), cell).record
        return record is not None and record.fingerprint == planned.fingerprint

    def _train(self, planned: PlannedCell) -> int:
        """The exit code of the cell's process."""
        cell = planned.cell.id
        log = self._plan.paths.logs / f"{cell}.log"
        command = ["train", str(self._plan.paths.request(cell)), "--log", str(log), "--no-wait"]
        threads = {"OMP_NUM_THREADS": str(planned.cell.settings.compute.threads)}
        # One `mlcl work` on each machine may be started by srun; their cells are made by one process each.
        environment = without_place(os.environ) | threads
        process = subprocess.Popen([sys.executable, "-m", "mlcl", *command], env=environment)
        self._processes.add(process)
        try:
            code = process.wait()
        finally:
            self._processes.discard(process)
        if code not in (0, self._taken):
            self._failed.append(f"  {cell}: exit code {code}; see {log}")
        return code
