"""Trains a cell in as many processes as its settings say: in this one, in workers that it starts, or in those of a job.

In a job (`mlcl.training.job`) each process starts one worker and looks after it: a worker that is killed, or waits for
one that is, ends the cell with a message.
"""

from __future__ import annotations

import os
import pickle
import resource
import signal
import socket
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from multiprocessing import connection
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

from mlcl import losses
from mlcl.data import PreparedDataset, open_dataset
from mlcl.training import distributed, run
from mlcl.training.context import SPLITS, Context
from mlcl.training.events import Interrupted, TrainingEvent
from mlcl.training.job import Job, interface_to
from mlcl.training.settings import CellSettings

if TYPE_CHECKING:
    from mlcl.training.outcome import Outcome

COLLECTIVE_TIMEOUT = timedelta(hours=6)
"""Timeout of collectives. Dead workers are noticed at once; this bounds deadlocks, such as a loss that calls a
collective on one rank only. It must exceed the time of a validation, for which the other ranks wait."""
SAVE_TIMEOUT = 120.0
"""Seconds that workers have to save their state after a SIGTERM."""
EXIT_TIMEOUT = 20.0
"""Seconds that workers have to exit by themselves."""
OTHER_ERRORS_WAIT = 2.0
"""After the first error, wait this many seconds for errors of other ranks: the first to arrive is often a consequence,
not the cause."""
SILENCE = 5.0
"""In a job, errors are waited for this much longer: a process that was not heard of meanwhile is their cause."""
SHARED_FILES_TIMEOUT = 120.0
"""Seconds that a network file system has to show one machine the checkpoints that another one wrote."""


def train(
    settings: CellSettings,
    dataset: PreparedDataset,
    report: Callable[[TrainingEvent], None],
    checkpoints: Path | None = None,
) -> Outcome:
    """`run.train` in `settings.compute.processes` processes; on GPUs each has one of its own.

    Baselines that train nothing run in one process. An exception of a worker is raised here. Raises ValueError if
    the processes cannot share the batches evenly or there are too few GPUs, and RuntimeError if a worker is killed.
    """
    count = settings.compute.processes
    if count == 1 or settings.training is None:
        return run.train(settings, dataset, report, checkpoints)
    _require_equal_shares(settings)
    on_gpu = distributed.select_device(settings.compute).type == "cuda"
    if on_gpu and torch.cuda.device_count() < count:
        raise ValueError(f"compute.processes is {count}, but there are {torch.cuda.device_count()} GPUs")
    return _train_in_workers(settings, dataset, report, checkpoints, on_gpu)


def train_in_job(
    job: Job,
    settings: CellSettings,
    dataset: PreparedDataset,
    report: Callable[[TrainingEvent], None],
    checkpoints: Path | None = None,
) -> Outcome:
    """`train` in process 0 of a job, which has as many processes as `settings.compute` says; the others call
    `take_part`.

    Dataset and checkpoints must lie on a file system that all machines of the job share. Raises as `train`, and
    Interrupted if a process of the job is gone.
    """
    if settings.training is None:
        return run.train(settings, dataset, report, checkpoints)
    _require_equal_shares(settings)
    on_gpu = distributed.select_device(settings.compute).type == "cuda"
    return _train_in_workers(settings, dataset, report, checkpoints, on_gpu, job)


def take_part(job: Job, task: _WorkerTask) -> None:
    """A process's part, other than process 0's, in the training that process 0 announced (`Job.wait_for_task`).

    Raises Interrupted if process 0 is gone; any other error is process 0's to raise.
    """
    workers = _Workers(task, job)
    try:
        with workers:
            workers.wait(lambda event: None)
    except Exception as error:
        if isinstance(error, Interrupted) and not job.is_over:
            job.check()
        job.report(workers.failed_at or time.time(), picklable(error))


def _require_equal_shares(settings: CellSettings) -> None:
    count, training = settings.compute.processes, settings.training or {}
    for batch_size in (stage["batch_size"] for stage in (training, training.get("finetuning")) if stage):
        if batch_size % count:
            raise ValueError(f"batch_size {batch_size} cannot be shared evenly by {count} processes")


def _train_in_workers(
    settings: CellSettings,
    dataset: PreparedDataset,
    report: Callable[[TrainingEvent], None],
    checkpoints: Path | None,
    on_gpu: bool,
    job: Job | None = None,
) -> Outcome:
    with tempfile.TemporaryDirectory() as scratch:
        task = _WorkerTask(
            settings.model_dump_json(), dataset.folder, checkpoints, on_gpu, settings.compute.processes,
            Path(scratch) / "outcome",
        )  # fmt: skip
        if job is not None:
            job.announce(task)
        with _Workers(task, job) as workers:
            workers.wait(report)
        _import_loss(settings)
        outcome: Outcome = torch.load(task.outcome, map_location="cpu", weights_only=False)
    return outcome


def _import_loss(settings: CellSettings) -> None:
    """Imports the file of a user's loss, so that a method trained with it can be unpickled."""
    part = settings.loss
    if part is not None and part.file is not None:
        losses.create(part.name, num_labels=2, embedding_dim=2, file=part.file, **part.hyperparameters)


@dataclass(frozen=True)
class _WorkerTask:
    """What each worker is given."""

    settings_json: str
    folder: Path
    checkpoints: Path | None
    on_gpu: bool
    count: int
    outcome: Path
    """The file to which rank 0 writes the outcome."""


@dataclass(frozen=True)
class _Meeting:
    """Where workers meet, and which of them are started here."""

    address: str
    port: int
    prefix: str = ""
    """Of the names that they use in the store."""
    first_rank: int = 0
    first_local_rank: int = 0
    in_job: bool = False


class _Workers:
    """The worker processes; started by entering the block, and ended when it is left.

    job: starts one of them, for this process's place in the job.
    """

    def __init__(self, task: _WorkerTask, job: Job | None = None) -> None:
        self._task, self._job = task, job
        self._stopped: float | None = None
        """Time of the SIGTERM, if there was one."""
        self._errors: list[tuple[float, Exception]] = []
        self._is_gone = False

    @property
    def failed_at(self) -> float | None:
        """When the earliest error was raised, in seconds since 1970."""
        times = [at for at, _ in self._errors]
        return min(times) if times else None

    def __enter__(self) -> _Workers:
        with ExitStack() as stack:
            stack.enter_context(_on_sigterm(self._forward_sigterm))
            self._workers: Any = None
            meeting = self._meeting()
            count = self._task.count if self._job is None else 1
            pipes = [mp.get_context("spawn").Pipe(duplex=False) for _ in range(count)]
            self._readers = {reader: index for index, (reader, _) in enumerate(pipes)}
            self._ranks = range(meeting.first_rank, meeting.first_rank + count)
            writers = [writer for _, writer in pipes]
            self._workers = mp.start_processes(  # type: ignore[attr-defined]
                _worker, (self._task, meeting, writers), count, join=False
            )
            stack.callback(self._join_or_kill)
            for writer in writers:
                writer.close()  # so that a pipe ends when its worker does
            if self._stopped is not None:
                self._forward_sigterm()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _meeting(self) -> _Meeting:
        if self._job is not None:
            place = self._job.place
            return _Meeting(
                place.address, place.port, f"mlcl/{place.attempt}/workers", place.rank, place.local_rank, True
            )
        # The store lives in this process, on a port that the system chooses.
        self._store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        return _Meeting("127.0.0.1", self._store.port)

    def wait(self, report: Callable[[TrainingEvent], None]) -> None:
        """Passes on events until all workers have exited; raises the earliest error."""
        deadline: float | None = None
        while self._readers and (deadline is None or time.monotonic() < deadline):
            for reader in connection.wait(list(self._readers), timeout=0.2):
                assert isinstance(reader, connection.Connection)
                try:
                    kind, message = reader.recv()
                except (EOFError, OSError):
                    self._on_exit(self._readers.pop(reader))
                    continue
                if kind == "event":
                    report(message)
                else:
                    self._errors.append(message)
            if self._job is not None:
                self._look_at_job(self._job)
            if self._errors and deadline is None:
                deadline = time.monotonic() + OTHER_ERRORS_WAIT
            if self._stopped is not None and time.monotonic() - self._stopped > SAVE_TIMEOUT:
                raise Interrupted(
                    f"did not save its state within {SAVE_TIMEOUT:.0f} s; training resumes from the last checkpoint, "
                    "if there is one"
                )
        if self._errors and self._job is not None:
            self._look_for_silence(self._job)
        if self._errors:
            raise min(self._errors, key=lambda error: error[0])[1]

    def _look_at_job(self, job: Job) -> None:
        """Raises Interrupted if one of its processes is gone, or process 0 has ended."""
        self._errors += job.errors()
        self._is_gone = True  # unless nothing is raised
        job.check()
        if job.is_over:
            raise Interrupted("process 1 has ended")
        self._is_gone = False

    def _look_for_silence(self, job: Job) -> None:
        """After an error: raises Interrupted if a process was killed with its worker, which others then miss."""
        if self._stopped is None and job.leads:
            end = time.monotonic() + SILENCE
            while time.monotonic() < end and not any(at == float("-inf") for at, _ in self._errors):
                time.sleep(0.2)
                self._errors += job.errors()
            job.require_beats(SILENCE)

    def _on_exit(self, index: int) -> None:
        process = self._workers.processes[index]
        process.join(EXIT_TIMEOUT)
        code = process.exitcode or 0
        if -code == signal.SIGTERM:
            error: Exception = Interrupted(
                "stopped; training resumes from the last checkpoint, if there is one"
            )
        elif code:
            how = (
                f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            )
            where = f" (on {socket.gethostname()})" if self._job is not None else ""
            error = RuntimeError(f"process {self._ranks[index] + 1} of {self._task.count}{where} {how}")
        else:
            return
        # Before all others: they report lost connections, which this one caused.
        self._errors.append((float("-inf"), error))

    def _forward_sigterm(self) -> None:
        self._stopped = self._stopped or time.monotonic()
        for process in self._workers.processes if self._workers else ():
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGTERM)

    def _join_or_kill(self) -> None:
        failed = self._is_gone or any(not isinstance(error, Interrupted) for _, error in self._errors)
        deadline = time.monotonic() + (0 if failed else EXIT_TIMEOUT)
        for process in self._workers.processes:
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()


def _worker(index: int, task: _WorkerTask, meeting: _Meeting, writers: list[Any]) -> None:
    """Runs in each worker process; rank 0 sends events and writes the outcome."""
    for other, writer in enumerate(writers):
        if other != index:
            writer.close()
    pipe = writers[index]
    rank, local_rank = meeting.first_rank + index, meeting.first_local_rank + index
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(local_rank), "WORLD_SIZE": str(task.count),
        "MASTER_ADDR": meeting.address, "MASTER_PORT": str(meeting.port),
    }  # fmt: skip
    if meeting.in_job:
        if "GLOO_SOCKET_IFNAME" not in os.environ and (interface := interface_to(meeting.address)):
            os.environ["GLOO_SOCKET_IFNAME"] = interface
    else:
        os.environ["LOCAL_WORLD_SIZE"] = str(task.count)

    def report(event: TrainingEvent) -> None:
        if rank == 0:
            pipe.send(("event", event))

    try:
        outcome = _train_rank(rank, local_rank, task, meeting, report)
        if rank == 0:
            method = outcome.fitted.method if outcome.fitted else None
            with distributed.single_process(method) if method is not None else nullcontext():
                torch.save(replace(outcome, throughput=outcome.throughput | _peak_memory()), task.outcome)
    except Exception as error:
        # On SIGTERM all ranks stop together; rank 0 reports it, after it has saved the state.
        if rank == 0 or not isinstance(error, Interrupted):
            pipe.send(("error", (time.time(), picklable(error))))
    else:
        dist.destroy_process_group()
    finally:
        pipe.close()


def _train_rank(
    rank: int,
    local_rank: int,
    task: _WorkerTask,
    meeting: _Meeting,
    report: Callable[[TrainingEvent], None],
) -> Outcome:
    if task.on_gpu:
        if not torch.cuda.is_available():
            raise RuntimeError(f"process 1 trains on a GPU, but CUDA does not work on {socket.gethostname()}")
        # A scheduler may show each process of a job its own GPU alone.
        torch.cuda.set_device(local_rank % torch.cuda.device_count())
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if task.on_gpu else "gloo",
        store=PrefixStore(meeting.prefix, TCPStore(meeting.address, meeting.port)),
        rank=rank,
        world_size=task.count,
        timeout=COLLECTIVE_TIMEOUT,
    )
    settings = CellSettings.model_validate_json(task.settings_json)
    if meeting.in_job:
        _wait_for_shared_files(task, settings)
    return run.train(settings, open_dataset(task.folder), report, task.checkpoints)


def _wait_for_shared_files(task: _WorkerTask, settings: CellSettings) -> None:
    """Returns when all machines of a job see the same dataset, tokens and checkpoints.

    Tokens, which are made at their first use, are made by rank 0: the file lock that keeps the processes of one machine
    apart may not reach another machine. Raises FileNotFoundError where a machine does not share the dataset's folder,
    and Interrupted where it does not show the checkpoints.
    """
    if not task.folder.exists():
        raise FileNotFoundError(
            f"{task.folder}: is not there on {socket.gethostname()}; the machines of a job need a file system that "
            "they share"
        )
    if dist.get_rank() == 0:
        dataset = open_dataset(task.folder)
        context = Context(settings, dataset, torch.device("cpu"), lambda event: None)
        for split in SPLITS:
            context.raw_inputs(split)
    end = time.monotonic() + SHARED_FILES_TIMEOUT
    while len(set(distributed.all_gather_object(_checkpoints(task.checkpoints)))) > 1:
        if distributed.any_rank(time.monotonic() > end):
            raise Interrupted(
                f"{task.checkpoints}: the machines of the job see different checkpoints there; they need a file system "
                "that they share"
            )
        time.sleep(1)


def _checkpoints(folder: Path | None) -> tuple[tuple[str, bytes], ...]:
    """The names of the files in a folder, and how they begin: that of a checkpoint holds a digest of the rest."""
    files = sorted(folder.glob("*.pt")) if folder is not None else []
    beginnings = []
    for file in files:
        with file.open("rb") as content:
            beginnings.append((file.name, content.read(128)))
    return tuple(beginnings)


def _peak_memory() -> dict[str, float]:
    """Of rank 0, in place of the launching process's own."""
    return {"peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)}


def picklable(error: Exception) -> Exception:
    """The error with its traceback as a note; a RuntimeError with its message if it cannot be pickled."""
    error.add_note("".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


@contextmanager
def _on_sigterm(action: Callable[[], None]) -> Iterator[None]:
    if (
        threading.current_thread() is not threading.main_thread()
    ):  # Python allows handlers in the main thread only
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        action()

    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
