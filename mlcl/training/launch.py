"""Several processes for one cell: started here, each with its share of every batch."""

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
from mlcl.training.checkpoint import Interrupted
from mlcl.training.settings import CellSettings

if TYPE_CHECKING:
    from mlcl.training.context import Outcome
    from mlcl.training.loop import News

LONGEST_WAIT = timedelta(hours=6)
"""How long a process waits for the others, as while the first one validates. Those that die are noticed at once;
this is for those that wait for each other, such as in a loss that calls the others in one process only."""
LAST_STEP = 120.0
"""Seconds that they are given to save the state after a SIGTERM."""
PATIENCE = 20.0
"""Seconds that processes are given to end by themselves."""
OTHERS_WORD = 2.0
"""Seconds in which, after a first failure, others are heard: it may be the consequence of theirs."""


def train_together(
    settings: CellSettings,
    folder: Path,
    report: Callable[[News], None],
    checkpoints: Path | None,
) -> Outcome:
    """As `run.train`, in `settings.compute.processes` processes; on GPUs each has one of its own.

    What one of them raises is raised here. Raises ValueError if the batches cannot be shared out evenly or there
    are too few GPUs, and RuntimeError if a process is killed.
    """
    from mlcl.training import processes

    count, on_gpu = settings.compute.processes, processes.select_device(settings.compute).type == "cuda"
    if settings.training is None:
        return _by_one(settings, folder, report, checkpoints)
    stages = [settings.training, settings.training.get("finetuning") or {}]
    for batch_size in (stage["batch_size"] for stage in stages if stage):
        if batch_size % count:
            raise ValueError(f"batch_size {batch_size} cannot be shared by {count} processes")
    if on_gpu and torch.cuda.device_count() < count:
        raise ValueError(f"compute.processes is {count}, and there are {torch.cuda.device_count()} GPUs")
    with tempfile.TemporaryDirectory() as scratch:
        share = _Share(
            settings.model_dump_json(), folder, checkpoints, on_gpu, count, Path(scratch) / "outcome"
        )
        with _Company(share) as company:
            company.listen(report)
        _know_the_loss(settings)
        outcome: Outcome = torch.load(share.outcome, map_location="cpu", weights_only=False)
    return outcome


def _by_one(
    settings: CellSettings, folder: Path, report: Callable[[News], None], checkpoints: Path | None
) -> Outcome:
    """What is not trained needs no company."""
    from mlcl.data import open_dataset
    from mlcl.training.run import train

    one = settings.model_copy(update={"compute": settings.compute.model_copy(update={"processes": 1})})
    return train(one, open_dataset(folder), report, checkpoints)


def _know_the_loss(settings: CellSettings) -> None:
    """Imports the file of a user's loss, so that what was trained with it can be unpickled."""
    part = settings.loss
    if part is not None and part.file is not None:
        losses.create(part.name, num_labels=2, embedding_dim=2, file=part.file, **part.hyperparameters)


@dataclass(frozen=True)
class _Share:
    """What each process is told."""

    settings_json: str
    folder: Path
    checkpoints: Path | None
    on_gpu: bool
    count: int
    outcome: Path
    """Where the first process leaves what came out."""


class _Company:
    """The processes from their start to their end; they are gone when the block is left."""

    def __init__(self, share: _Share) -> None:
        self._share = share
        self._stopped: float | None = None
        """When SIGTERM came."""
        self._failures: list[tuple[float, Exception]] = []

    def __enter__(self) -> _Company:
        with ExitStack() as stack:
            stack.enter_context(_on_sigterm(self._pass_on))
            self._workers: Any = None
            # Here, so that no port has to be guessed; it goes with this process.
            self._store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
            pipes = [mp.get_context("spawn").Pipe(duplex=False) for _ in range(self._share.count)]
            self._readers = {reader: rank for rank, (reader, _) in enumerate(pipes)}
            writers = [writer for _, writer in pipes]
            self._workers = mp.start_processes(  # type: ignore[attr-defined]
                _work, (self._share, self._store.port, writers), self._share.count, join=False
            )
            stack.callback(self._end)
            for writer in writers:
                writer.close()  # so that the end of a process is the end of its pipe
            if self._stopped is not None:
                self._pass_on()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def listen(self, report: Callable[[News], None]) -> None:
        """Passes on what is told until all have ended; raises what went wrong first."""
        until: float | None = None
        while self._readers and (until is None or time.monotonic() < until):
            for reader in connection.wait(list(self._readers), timeout=0.2):
                assert isinstance(reader, connection.Connection)
                try:
                    kind, what = reader.recv()
                except (EOFError, OSError):
                    self._left(self._readers.pop(reader))
                    continue
                if kind == "news":
                    report(what)
                else:
                    self._failures.append(what)
            if self._failures and until is None:
                until = time.monotonic() + OTHERS_WORD
            if self._stopped is not None and time.monotonic() - self._stopped > LAST_STEP:
                raise Interrupted(
                    f"did not stop within {LAST_STEP:.0f} s; goes on from what was saved before, if anything"
                )
        if self._failures:
            raise min(self._failures, key=lambda failure: failure[0])[1]

    def _left(self, rank: int) -> None:
        process = self._workers.processes[rank]
        process.join(PATIENCE)
        code = process.exitcode or 0
        if -code == signal.SIGTERM:
            error: Exception = Interrupted("stopped; training goes on from what was saved last, if anything")
        elif code:
            how = (
                f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            )
            error = RuntimeError(f"process {rank + 1} of {self._share.count} {how}")
        else:
            return
        # What the others say is of lost connections: before all of it.
        self._failures.append((float("-inf"), error))

    def _pass_on(self) -> None:
        self._stopped = self._stopped or time.monotonic()
        for process in self._workers.processes if self._workers else ():
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGTERM)

    def _end(self) -> None:
        failed = any(not isinstance(error, Interrupted) for _, error in self._failures)
        until = time.monotonic() + (0 if failed else PATIENCE)
        for process in self._workers.processes:
            process.join(max(0.0, until - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()


def _work(rank: int, share: _Share, port: int, writers: list[Any]) -> None:
    """One of the processes; the first one reports and leaves the outcome behind."""
    for other, writer in enumerate(writers):
        if other != rank:
            writer.close()
    told = writers[rank]
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(share.count),
        "LOCAL_WORLD_SIZE": str(share.count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    from mlcl.training import processes

    def report(news: News) -> None:
        if rank == 0:
            told.send(("news", news))

    try:
        outcome = _outcome(rank, share, port, report)
        if rank == 0:
            method = outcome.fitted.method if outcome.fitted else None
            with processes.alone(method) if method is not None else nullcontext():
                torch.save(replace(outcome, speed=outcome.speed | _memory()), share.outcome)
    except Exception as error:
        # All stop together; the first one's word comes after it has saved the state.
        if rank == 0 or not isinstance(error, Interrupted):
            told.send(("failure", (time.monotonic(), _portable(error))))
    else:
        dist.destroy_process_group()
    finally:
        told.close()


def _outcome(rank: int, share: _Share, port: int, report: Callable[[News], None]) -> Outcome:
    from mlcl.data import open_dataset
    from mlcl.training.run import train

    if share.on_gpu:
        torch.cuda.set_device(rank)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if share.on_gpu else "gloo",
        store=TCPStore("127.0.0.1", port),
        rank=rank,
        world_size=share.count,
        timeout=LONGEST_WAIT,
    )
    settings = CellSettings.model_validate_json(share.settings_json)
    return train(settings, open_dataset(share.folder), report, share.checkpoints)


def _memory() -> dict[str, float]:
    """The first process's peak, in place of that of the process which waits for it."""
    return {"peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)}


def _portable(error: Exception) -> Exception:
    """The error with its traceback as a note; one of the same words if it cannot be sent."""
    error.add_note("".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


@contextmanager
def _on_sigterm(do: Callable[[], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # where Python allows no handlers
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        do()

    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
