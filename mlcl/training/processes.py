"""Several processes that train one cell together; one process is the simplest case.

Each takes its part of every batch; losses and the momentum queue see the whole of it. What comes between and after
training (validation, evaluation, checkpoints) is the first process's work alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mlcl.training.settings import ComputeSettings

if TYPE_CHECKING:
    from accelerate import Accelerator

_alone = False


def count() -> int:
    return dist.get_world_size() if not _alone and dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if count() > 1 else 0


@contextmanager
def alone(module: nn.Module) -> Iterator[None]:
    """Within, this process is the only one: the losses in `module` see its rows and wait for nobody."""
    global _alone
    linked = [(part, part.process_group) for part in module.modules() if hasattr(part, "process_group")]
    before, _alone = _alone, True
    for part, _ in linked:
        part.process_group = None  # type: ignore[assignment]
    try:
        yield
    finally:
        _alone = before
        for part, group in linked:
            part.process_group = group


def gathered(rows: Tensor) -> Tensor:
    """The rows of all processes in their order, without a graph; all hold equally many."""
    if count() == 1:
        return rows
    received = [torch.empty_like(rows) for _ in range(count())]
    dist.all_gather(received, rows.contiguous())
    return torch.cat(received)


def all_of(value: Any) -> list[Any]:
    """The values of all processes in their order, exchanged between hosts."""
    if count() == 1:
        return [value]
    found: list[Any] = [None] * count()
    dist.all_gather_object(found, value)
    return found


def any_of(flag: bool) -> bool:
    """Is it so in any process? Exchanged between hosts: no device is waited for."""
    if count() == 1:
        return flag
    raised = torch.tensor(int(flag))
    dist.all_reduce(raised, dist.ReduceOp.MAX)
    return bool(raised)


def together(method: nn.Module, device: torch.device) -> nn.Module:
    """The method as the processes train it: all begin with the first one's weights, gradients are averaged."""
    if count() == 1:
        return method
    # Each keeps its own statistics of batch normalisation; those of the first one count.
    return nn.parallel.DistributedDataParallel(
        method, device_ids=[device] if device.type == "cuda" else None, forward_sync_buffers=False
    )


@torch.no_grad()
def average_gradients(module: nn.Module) -> None:
    """Averages gradients that did not come from a pass through `together`."""
    if count() == 1:
        return
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= count()
    for gradient, averaged in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(averaged.view_as(gradient))


def accelerator(compute: ComputeSettings) -> Accelerator:
    """The launcher's view of this process: its device, its precision, the others."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, GradientState

    # What a cell before this one in the same process asked for is not to be found here.
    AcceleratorState._reset_state(reset_partial_state=count() == 1)
    GradientState._reset_state()
    device = select_device(compute)
    return Accelerator(
        cpu=device.type == "cpu",
        mixed_precision=precision(compute, device),
        step_scheduler_with_optimizer=False,
    )


def select_device(compute: ComputeSettings) -> torch.device:
    if compute.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(compute.device)


def precision(compute: ComputeSettings, device: torch.device) -> str:
    """The kind of numbers the encoder computes in, by the launcher's name: no (float32), bf16, fp16."""
    if compute.precision == "fp32":
        return "no"
    has_bfloat16 = device.type == "cpu" or torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if has_bfloat16 else "fp16"
