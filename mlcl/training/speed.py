"""What training took: examples a second, the parts of a step, and how much of the device's speed was used."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import torch

from mlcl.encoders.base import Batch
from mlcl.training.batches import in_order
from mlcl.training.settings import ComputeSettings

if TYPE_CHECKING:
    from mlcl.encoders.base import Encoder
    from mlcl.training.context import Context, Outcome

SAMPLE = 8
"""Examples whose operations are counted."""
BACKWARD_AND_FORWARD = 3
"""A backward pass costs about twice the operations of the forward pass (the convention of the field)."""


def measured(context: Context, outcome: Outcome) -> dict[str, Any]:
    """`examples_per_second` of training, `step_seconds` by part, `flops_per_second` that the encoder's training
    achieved, and `device_flops_per_second`, the rate of a large matrix product on the same device and threads."""
    fitted = outcome.fitted
    if fitted is None or not fitted.curve:
        return {}
    steps = fitted.curve[-1].step
    stepping = sum(fitted.step_seconds.values())
    rate = fitted.curve[-1].examples_per_second
    rows = next(in_order(context.train_rows, SAMPLE))
    batch = context.inputs("train").take(rows, context.device)
    per_example = forward_flops(fitted.method.encoder, batch) / len(rows)
    return {
        "examples_per_second": round(rate, 1),
        "step_seconds": {part: round(seconds / steps, 6) for part, seconds in fitted.step_seconds.items()},
        "flops_per_second": round(BACKWARD_AND_FORWARD * per_example * rate) if stepping else None,
        "device_flops_per_second": round(matrix_product_rate(context.device, context.settings.compute)),
    }


def forward_flops(encoder: Encoder, batch: Batch) -> int:
    """Floating-point operations of a forward pass (two for each multiplication and addition).

    Gradients stay on: the counter does not know the fused attention that torch uses without them.
    """
    from torch.utils.flop_counter import FlopCounterMode

    encoder.eval()
    with FlopCounterMode(display=False) as counter:
        encoder(batch)
    return int(counter.get_total_flops())


@torch.no_grad()
def matrix_product_rate(device: torch.device, compute: ComputeSettings) -> float:
    """Operations a second of a large matrix product, in the cell's precision."""
    on_gpu = device.type == "cuda"
    size = 8192 if on_gpu else 1024
    dtype = torch.bfloat16 if compute.precision == "mixed" else torch.float32
    left = torch.ones(size, size, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(3):
        begun = time.perf_counter()
        left @ left
        if on_gpu:
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - begun)
    return 2 * size**3 / best
