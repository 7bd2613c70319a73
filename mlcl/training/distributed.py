"""The processes that train one cell together (data parallel); a single process is the simplest case.

Each process takes its part of every batch; losses and the momentum queue see the whole batch. Validation, evaluation
and checkpoints are the work of rank 0 alone.
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

_single = False


def world_size() -> int:
    return dist.get_world_size() if not _single and dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if world_size() > 1 else 0


@contextmanager
def single_process(module: nn.Module) -> Iterator[None]:
    """Inside the block this process acts as if it were the only one: no collectives, also not in `module`'s losses."""
    global _single
    linked = [(part, part.process_group) for part in module.modules() if hasattr(part, "process_group")]
    before, _single = _single, True
    for part, _ in linked:
        part.process_group = None  # type: ignore[assignment]
    try:
        yield
    finally:
        _single = before
        for part, group in linked:
            part.process_group = group


def all_gather(rows: Tensor) -> Tensor:
    """The rows of all ranks (world_size * n, ...) in rank order, without a graph; every rank holds n of them."""
    if world_size() == 1:
        return rows
    received = [torch.empty_like(rows) for _ in range(world_size())]
    dist.all_gather(received, rows.contiguous())
    return torch.cat(received)


def all_gather_object(value: Any) -> list[Any]:
    """The values of all ranks in rank order, exchanged between hosts."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def any_rank(flag: bool) -> bool:
    """Is the flag set on any rank? Exchanged between hosts, without synchronising with a device."""
    if world_size() == 1:
        return flag
    raised = torch.tensor(int(flag))
    dist.all_reduce(raised, dist.ReduceOp.MAX)
    return bool(raised)


def wrap_ddp(method: nn.Module, device: torch.device) -> nn.Module:
    """The method in DistributedDataParallel, which starts from rank 0's weights and averages gradients.

    A single process gets the method itself. Every rank keeps its own statistics of batch normalisation; rank 0's are
    evaluated.
    """
    if world_size() == 1:
        return method
    return nn.parallel.DistributedDataParallel(
        method, device_ids=[device] if device.type == "cuda" else None, forward_sync_buffers=False
    )


@torch.no_grad()
def average_gradients(module: nn.Module) -> None:
    """Averages gradients over ranks, for backward passes that did not go through DistributedDataParallel."""
    if world_size() == 1:
        return
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= world_size()
    for gradient, averaged in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(averaged.view_as(gradient))


def accelerator(compute: ComputeSettings) -> Accelerator:
    """A new Accelerator for this process's device and precision."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, GradientState

    # Accelerate keeps settings globally; those of an earlier cell in this process must not leak into this one.
    AcceleratorState._reset_state(reset_partial_state=world_size() == 1)
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
    """The encoder's number format, as Accelerate names it: `no` (float32), `bf16` or `fp16`."""
    if compute.precision == "fp32":
        return "no"
    has_bfloat16 = device.type == "cpu" or torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if has_bfloat16 else "fp16"
