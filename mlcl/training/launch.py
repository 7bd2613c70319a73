"""Several processes for one cell: started here, each with its share of every batch."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.multiprocessing.spawn as spawning

from mlcl.training.checkpoint import Interrupted
from mlcl.training.settings import CellSettings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.queues import Queue

    from mlcl.training.context import Outcome
    from mlcl.training.loop import EpochReport


def train_together(
    settings: CellSettings,
    folder: Path,
    report: Callable[[EpochReport], None],
    checkpoints: Path | None,
) -> Outcome:
    """As `run.train`, in `settings.compute.processes` processes; on GPUs each has one of its own.

    Raises ValueError if the batches cannot be shared out evenly or there are too few GPUs.
    """
    from mlcl.training import processes

    count, on_gpu = settings.compute.processes, processes.select_device(settings.compute).type == "cuda"
    if settings.training is None:
        return _alone(settings, folder, report, checkpoints)
    if settings.training["batch_size"] % count:
        raise ValueError(
            f"batch_size {settings.training['batch_size']} cannot be shared by {count} processes"
        )
    if on_gpu and torch.cuda.device_count() < count:
        raise ValueError(f"compute.processes is {count}, and there are {torch.cuda.device_count()} GPUs")
    told: Queue[tuple[str, Any]] = mp.get_context("spawn").Queue()
    arguments = (count, _free_port(), settings.model_dump_json(), folder, checkpoints, on_gpu, told)
    workers = spawning.start_processes(_work, arguments, nprocs=count, join=False, start_method="spawn")
    assert workers is not None
    with _passing_on_sigterm(workers.pids()):
        outcome = _listen(told, report, workers)
        while not workers.join():
            pass
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


def _alone(
    settings: CellSettings, folder: Path, report: Callable[[EpochReport], None], checkpoints: Path | None
) -> Outcome:
    """What is not trained needs no company."""
    from mlcl.data import open_dataset
    from mlcl.training.run import train

    one = settings.model_copy(update={"compute": settings.compute.model_copy(update={"processes": 1})})
    return train(one, open_dataset(folder), report, checkpoints)


def _listen(
    told: Queue[tuple[str, Any]], report: Callable[[EpochReport], None], workers: Any
) -> Outcome | BaseException:
    from queue import Empty

    while True:
        try:
            kind, what = told.get(timeout=1)
        except Empty:
            workers.join(timeout=0)  # raises what a worker died of
            continue
        if kind == "epoch":
            report(what)
        else:
            result: Outcome | BaseException = what
            return result


def _work(
    rank: int,
    count: int,
    port: int,
    settings_json: str,
    folder: Path,
    checkpoints: Path | None,
    on_gpu: bool,
    told: Queue[tuple[str, Any]],
) -> None:
    """One of the processes; the first one reports and hands the outcome back, without the modules."""
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count),
    }  # fmt: skip
    from mlcl.data import open_dataset
    from mlcl.training.loop import Diverged
    from mlcl.training.run import train

    if on_gpu:
        torch.cuda.set_device(rank)
    dist.init_process_group("nccl" if on_gpu else "gloo", rank=rank, world_size=count)

    def report(line: EpochReport) -> None:
        if rank == 0:
            told.put(("epoch", line))

    outcome: Outcome | BaseException
    try:
        outcome = train(
            CellSettings.model_validate_json(settings_json), open_dataset(folder), report, checkpoints
        )
    except (Diverged, Interrupted, torch.OutOfMemoryError) as error:
        outcome = type(error)(str(error))
    if rank == 0:
        told.put(("outcome", _portable(outcome)))
    dist.barrier()
    dist.destroy_process_group()


def _portable(outcome: Outcome | BaseException) -> Outcome | BaseException:
    if isinstance(outcome, BaseException):
        return outcome
    fitted = replace(outcome.fitted, method=outcome.fitted.method.cpu()) if outcome.fitted else None
    return replace(outcome, fitted=fitted)


@contextmanager
def _passing_on_sigterm(pids: list[int]) -> Iterator[None]:
    def pass_on(number: int, frame: FrameType | None) -> None:
        for pid in pids:
            os.kill(pid, signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, pass_on)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
