"""Throughput of a training: examples per second, seconds of the parts of a step, FLOP rate against the device's."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mlcl.encoders.flops import forward_flops
from mlcl.training import distributed
from mlcl.training.settings import ComputeSettings

if TYPE_CHECKING:
    from mlcl.training.context import Context
    from mlcl.training.loop import FitResult

SAMPLE = 8
"""Number of examples whose FLOPs are counted."""
FORWARD = 1
BACKWARD = 2
"""A backward pass is counted as twice a forward pass, the usual convention: once for the gradients of activations, once
for those of weights. The latter are not computed for frozen weights, below low-rank adapters."""
DTYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""By Accelerate's names."""


def measure(context: Context, fitted: FitResult | None) -> dict[str, Any]:
    """Measurements for the record; empty if nothing was trained.

    `examples_per_second` of all processes, including the time between steps; `training_cpu_seconds` of the training
    loop; `step_seconds` for each part of a step; `flops_per_second` of the encoder's training on one device;
    `device_flops_per_second`, the rate of a large matrix product on it with the same threads; `peak_device_memory_mb`
    on a GPU, before that product.
    """
    if fitted is None or not fitted.curve:
        return {}
    steps, rate = fitted.curve[-1].step, fitted.curve[-1].examples_per_second
    inputs, encoder = context.inputs("train"), fitted.method.encoder
    rows = sample_rows(context, inputs.lengths)
    batch = inputs.take(rows, context.device)
    frozen = sum(parameter.numel() for parameter in fitted.method.frozen_parameters().values())
    mostly_frozen = 2 * frozen > sum(parameter.numel() for parameter in encoder.parameters())
    # Other views go through the momentum encoder, forward only.
    passes = FORWARD * fitted.method.views + (BACKWARD / 2 if mostly_frozen else BACKWARD)
    per_example = passes * forward_flops(encoder, batch) / len(rows)
    measurements = {
        "examples_per_second": round(rate, 1),
        "training_cpu_seconds": round(fitted.cpu_seconds, 3),
        "step_seconds": {part: round(seconds / steps, 6) for part, seconds in fitted.step_seconds.items()},
        "flops_per_second": round(per_example * rate / distributed.world_size()),
    }
    if context.device.type == "cuda":
        measurements["peak_device_memory_mb"] = round(torch.cuda.max_memory_allocated() / 2**20, 1)
    rate_of_device = matrix_product_rate(context.device, context.settings.compute)
    return measurements | {"device_flops_per_second": round(rate_of_device)}


def sample_rows(context: Context, lengths: np.ndarray | None) -> np.ndarray:
    """Rows that cost as much as those of an average batch.

    Texts are padded to the longest of their batch: of random texts, or with length bucketing, of similar ones.
    """
    rows, training = context.train_rows, context.settings.training or {}
    if lengths is None:
        return rows[:SAMPLE]
    if training.get("length_bucketing"):
        middle = np.argsort(lengths[rows], kind="stable")[(len(rows) - 1) // 2]
        return rows[[middle]]
    spread = rows[np.linspace(0, len(rows) - 1, min(training["batch_size"], len(rows))).astype(int)]
    return np.concatenate([spread[[lengths[spread].argmax()]], spread[: SAMPLE - 1]])


@torch.no_grad()
def matrix_product_rate(device: torch.device, compute: ComputeSettings) -> float:
    """FLOP per second of a large matrix product, in the cell's precision."""
    on_gpu = device.type == "cuda"
    size = 8192 if on_gpu else 512
    dtype = DTYPES[distributed.precision(compute, device)]
    # Random values: on constant ones a GPU draws less power and runs faster.
    left = torch.rand(size, size, device=device, generator=torch.Generator(device).manual_seed(0)).to(dtype)
    best = float("inf")
    for _ in range(3):
        begun = time.perf_counter()
        left @ left
        if on_gpu:
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - begun)
    return 2 * size**3 / best
