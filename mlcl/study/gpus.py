"""How many CPUs and GPUs a cell needs, and which GPU it uses where several cells run at once on one machine.

Snakemake counts GPUs (`--resources gpu=4`, one by default), but does not say which is whose. Each cell takes the
first free slot, a file lock that the operating system frees with the process, and the GPU of that number; with more
slots than GPUs (`--resources gpu=4` on a machine with two), cells share them. Where a process sees no more GPUs than
it needs, as in a job of a cluster that assigns GPUs, nothing is done.
"""

from __future__ import annotations

import itertools
import os
import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path

from filelock import FileLock, Timeout

from mlcl.errors import ConfigError
from mlcl.records.running import JOB_VARIABLE
from mlcl.training.settings import CellSettings

VISIBLE = "CUDA_VISIBLE_DEVICES"


GPU_REQUESTS = ("gpus", "gres", "none")
"""How a cluster's GPUs are asked for: `--gpus=N`; `--gres=gpu:N`, where no other form is known; not at all."""


@cache
def visible() -> tuple[str, ...]:
    """The GPUs that this process may use, by number or name; found without torch."""
    if VISIBLE in os.environ:
        return tuple(part for part in os.environ[VISIBLE].split(",") if part.strip() not in ("", "-1"))
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(str(i) for i, line in enumerate(listing.stdout.splitlines()) if line.startswith("GPU"))


def gpus_needed(settings: CellSettings, available: bool | None = None) -> int:
    """How many GPUs a cell asks for: none without an encoder (`label_prior`, `random`), none on the CPU, and none
    where `device: auto` finds none.

    available: whether there are GPUs where the cell will run; by default, whether this process sees one.
    """
    if settings.encoder is None or settings.compute.device == "cpu":
        return 0
    if settings.compute.device == "auto" and not (bool(visible()) if available is None else available):
        return 0
    return settings.compute.processes


def cpus_needed(settings: CellSettings) -> int:
    """Threads of all processes of a cell."""
    processes = settings.compute.processes if settings.training is not None else 1
    return settings.compute.threads * processes


def check_gpu_request(asked: str) -> None:
    """Raises ConfigError for a word that is none of GPU_REQUESTS; `gres:TYPE` asks for a type."""
    if asked not in GPU_REQUESTS and not re.fullmatch(r"gres:\w+", asked):
        raise ConfigError(
            f"--config gpu_request={asked}: must be {', '.join(GPU_REQUESTS)} or gres:TYPE, such as gres:a100"
        )


def gres(asked: str | None, count: int) -> str | None:
    """What `--gres` asks for; None where GPUs are not asked for in this form."""
    if not count or asked is None or not asked.startswith("gres"):
        return None
    return ":".join(["gpu", *asked.split(":")[1:], str(count)])


def require_assigned_gpus(settings: CellSettings) -> None:
    """Raises RuntimeError in a job that was given GPUs on a node where CUDA does not work: `device: auto` would train
    on the CPU, for days, while the GPUs are held."""
    if settings.compute.device != "auto" or JOB_VARIABLE not in os.environ or not gpus_needed(settings):
        return
    import torch

    if not torch.cuda.is_available():
        raise RuntimeError(
            f"the job was given a GPU ({VISIBLE}={os.environ.get(VISIBLE)}), but CUDA does not work on "
            f"{socket.gethostname()}"
        )


@contextmanager
def reserve_gpus(settings: CellSettings, folder: Path) -> Iterator[None]:
    """Sets CUDA_VISIBLE_DEVICES to the GPUs that the cell asks for. To be entered before torch initialises CUDA."""
    count, gpus = gpus_needed(settings), visible()
    if count == 0 or len(gpus) <= count:  # where there are too few, training refuses
        yield
        return
    folder = folder / socket.gethostname()  # the bookkeeping may be shared with other machines
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        reserved = _free_gpus(stack, folder, count, gpus)
        before = dict(os.environ)
        os.environ[VISIBLE] = ",".join(reserved)
        try:
            yield
        finally:
            os.environ.pop(VISIBLE)
            os.environ |= {key: value for key, value in before.items() if key == VISIBLE}


def _free_gpus(stack: ExitStack, folder: Path, count: int, gpus: tuple[str, ...]) -> list[str]:
    """The GPUs of the first free slots, no GPU twice; their locks are released with the stack."""
    reserved: list[str] = []
    for slot in itertools.count():
        if len(reserved) == count:
            break
        if (gpu := gpus[slot % len(gpus)]) in reserved:
            continue
        with suppress(Timeout):
            stack.enter_context(FileLock(folder / f"{slot}.lock", timeout=0))
            reserved.append(gpu)
    return reserved
