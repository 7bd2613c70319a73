"""Several processes that train one cell together; one process is the simplest case.

Each takes its part of every batch; losses and the momentum queue see the whole of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.distributed as dist

from mlcl.training.settings import ComputeSettings

if TYPE_CHECKING:
    from accelerate import Accelerator


def count() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if count() > 1 else 0


def gathered(rows: torch.Tensor) -> torch.Tensor:
    """The rows of all processes in their order, without a graph; all hold equally many."""
    if count() == 1:
        return rows
    received = [torch.empty_like(rows) for _ in range(count())]
    dist.all_gather(received, rows.contiguous())
    return torch.cat(received)


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
        mixed_precision=_precision(compute, device),
        step_scheduler_with_optimizer=False,
    )


def select_device(compute: ComputeSettings) -> torch.device:
    if compute.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(compute.device)


def _precision(compute: ComputeSettings, device: torch.device) -> str:
    if compute.precision == "fp32":
        return "no"
    has_bfloat16 = device.type == "cpu" or torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if has_bfloat16 else "fp16"
