"""What the machine is, and its ceilings: matrix products and copies of large, random operands."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Annotated

import torch
import typer

from benchmarks.gpu import results


def main(
    device: Annotated[str, typer.Option()] = "cuda",
    append: Annotated[Path | None, typer.Option()] = None,
    quick: Annotated[bool, typer.Option("--quick")] = False,
) -> None:
    """Measure, print, append."""
    about: dict[str, object] = {
        "device": device_name(device),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cores": os.cpu_count(),
        "platform": platform.platform(),
    }
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        about |= {
            "memory_gb": round(properties.total_memory / 1e9, 1),
            "multiprocessors": properties.multi_processor_count,
            "capability": f"{properties.major}.{properties.minor}",
            "cuda": torch.version.cuda,
            "bf16": torch.cuda.is_bf16_supported(including_emulation=False),
        }
    print(about)
    results.add(append, "machine", **about)
    size = 8192 if device == "cuda" and not quick else 4096 if device == "cuda" else 512
    for kind in ("fp32", "tf32", "bf16", "fp16"):
        if kind == "tf32" and device == "cpu":
            continue
        rate = matrix_product_rate(device, kind, size)
        print(f"matrix product {size}^3 {kind}: {rate / 1e12:.1f} TFLOP/s")
        results.add(append, "ceiling", what=kind, size=size, value=rate, unit="FLOP/s")
    rate = copy_rate(device, (2**31 if not quick else 2**29) if device == "cuda" else 2**24)
    print(f"copy on the device: {rate / 1e12:.2f} TB/s, bytes read and written")
    results.add(append, "ceiling", what="copy", value=rate, unit="B/s")


def device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()


def matrix_product_rate(device: str, kind: str, size: int) -> float:
    """Operations a second of a product of two random (size, size) matrices."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(kind, torch.float32)
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = kind == "tf32"
    try:
        a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        out = torch.empty_like(a)
        return 2 * size**3 / seconds(lambda: torch.mm(a, b, out=out), device)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def copy_rate(device: str, size: int) -> float:
    """Bytes a second, read and written, of a copy of so many bytes."""
    source = torch.randn(size // 4, device=device)
    target = torch.empty_like(source)
    return 2 * size / seconds(lambda: target.copy_(source), device)


def seconds(function: Callable[[], object], device: str, least: float = 0.3, repetitions: int = 30) -> float:
    """Median time of a call, after a warm-up; on a GPU by its own events."""
    for _ in range(3):
        function()
    taken: list[float] = []
    begun = time.perf_counter()
    while len(taken) < 3 or (len(taken) < repetitions and time.perf_counter() - begun < least):
        taken.append(_once(function, device))
    return median(taken)


def _once(function: Callable[[], object], device: str) -> float:
    if device == "cuda":
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        function()
        last.record()
        last.synchronize()
        return first.elapsed_time(last) / 1e3
    begun = time.perf_counter()
    function()
    return time.perf_counter() - begun


if __name__ == "__main__":
    typer.run(main)
