"""Trains a cell in as many processes as its settings say: in this one, or in workers that it starts."""

from __future__ import annotations

import os
import pickle
import resource
import signal
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
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from mlcl import losses
from mlcl.data import PreparedDataset, open_dataset
from mlcl.training import distributed, run
from mlcl.training.events import Interrupted, TrainingEvent
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
    on_gpu = distributed.select_device(settings.compute).type == "cuda"
    stages = [settings.training, settings.training.get("finetuning") or {}]
    for batch_size in (stage["batch_size"] for stage in stages if stage):
        if batch_size % count:
            raise ValueError(f"batch_size {batch_size} cannot be shared evenly by {count} processes")
    if on_gpu and torch.cuda.device_count() < count:
        raise ValueError(f"compute.processes is {count}, but there are {torch.cuda.device_count()} GPUs")
    with tempfile.TemporaryDirectory() as scratch:
        task = _WorkerTask(
            settings.model_dump_json(), dataset.folder, checkpoints, on_gpu, count, Path(scratch) / "outcome"
        )
        with _Workers(task) as workers:
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


class _Workers:
    """The worker processes; started by entering the block, and ended when it is left."""

    def __init__(self, task: _WorkerTask) -> None:
        self._task = task
        self._stopped: float | None = None
        """Time of the SIGTERM, if there was one."""
        self._errors: list[tuple[float, Exception]] = []

    def __enter__(self) -> _Workers:
        with ExitStack() as stack:
            stack.enter_context(_on_sigterm(self._forward_sigterm))
            self._workers: Any = None
            # The store lives in this process, on a port that the system chooses.
            self._store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
            pipes = [mp.get_context("spawn").Pipe(duplex=False) for _ in range(self._task.count)]
            self._readers = {reader: rank for rank, (reader, _) in enumerate(pipes)}
            writers = [writer for _, writer in pipes]
            self._workers = mp.start_processes(  # type: ignore[attr-defined]
                _worker, (self._task, self._store.port, writers), self._task.count, join=False
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
            if self._errors and deadline is None:
                deadline = time.monotonic() + OTHER_ERRORS_WAIT
            if self._stopped is not None and time.monotonic() - self._stopped > SAVE_TIMEOUT:
                raise Interrupted(
                    f"did not save its state within {SAVE_TIMEOUT:.0f} s; training resumes from the last checkpoint, "
                    "if there is one"
                )
        if self._errors:
            raise min(self._errors, key=lambda error: error[0])[1]

    def _on_exit(self, rank: int) -> None:
        process = self._workers.processes[rank]
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
            error = RuntimeError(f"process {rank + 1} of {self._task.count} {how}")
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
        failed = any(not isinstance(error, Interrupted) for _, error in self._errors)
        deadline = time.monotonic() + (0 if failed else EXIT_TIMEOUT)
        for process in self._workers.processes:
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()


def _worker(rank: int, task: _WorkerTask, port: int, writers: list[Any]) -> None:
    """Runs in each worker process; rank 0 sends events and writes the outcome."""
    for other, writer in enumerate(writers):
        if other != rank:
            writer.close()
    pipe = writers[rank]
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(task.count),
        "LOCAL_WORLD_SIZE": str(task.count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip

    def report(event: TrainingEvent) -> None:
        if rank == 0:
            pipe.send(("event", event))

    try:
        outcome = _train_rank(rank, task, port, report)
        if rank == 0:
            method = outcome.fitted.method if outcome.fitted else None
            with distributed.single_process(method) if method is not None else nullcontext():
                torch.save(replace(outcome, throughput=outcome.throughput | _peak_memory()), task.outcome)
    except Exception as error:
        # On SIGTERM all ranks stop together; rank 0 reports it, after it has saved the state.
        if rank == 0 or not isinstance(error, Interrupted):
            pipe.send(("error", (time.monotonic(), picklable(error))))
    else:
        dist.destroy_process_group()
    finally:
        pipe.close()


def _train_rank(rank: int, task: _WorkerTask, port: int, report: Callable[[TrainingEvent], None]) -> Outcome:
    if task.on_gpu:
        torch.cuda.set_device(rank)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if task.on_gpu else "gloo",
        store=TCPStore("127.0.0.1", port),
        rank=rank,
        world_size=task.count,
        timeout=COLLECTIVE_TIMEOUT,
    )
    settings = CellSettings.model_validate_json(task.settings_json)
    return run.train(settings, open_dataset(task.folder), report, task.checkpoints)


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
