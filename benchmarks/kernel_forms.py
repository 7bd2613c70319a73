"""The tile form of the contrastive kernel beside the fused one, on a GPU: time, memory, rate, difference.

    python benchmarks/kernel_forms.py                               65,536 rows, 1,000 labels, D = 128, three losses
    python benchmarks/kernel_forms.py --rows 4096 --width 256       other sizes; --losses NAME ...
    python benchmarks/kernel_forms.py --blocks                      the fused form's block shapes, one after another

Forward and backward pass, float32. "fused, tf32" is with TF32 allowed for matrix products; so is "tile, tf32".
Operations are those of the form's matrix products, each counted once whatever its precision: 2 B^2 (3 D + L) for
the tile form, 2 B^2 ((D + L) (1 + parts) + D) for the fused one, with one part of the gradient for each 256
columns. The difference is |gradient - reference| / |reference|, where the reference
is the tile form's gradient, without TF32. The first call, which compiles, is timed apart. Each line is printed
as soon as it is there.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mlcl import losses
from mlcl.losses import _fused

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.losses import LABELS_PER_ROW

LOSSES = ("jaccard", "supcon_any", "mulsupcon")
# Of the kernel of row sums, and of the gradient's: what differs from the blocks that are chosen otherwise.
ROW_SUMS_BLOCKS: list[dict[str, int]] = [
    {"stages": 2},
    {"columns": 64},
    {"rows": 64, "columns": 64, "warps": 4},
]
GRADIENT_BLOCKS: list[dict[str, int]] = [
    {"stages": 2},
    {"columns": 32},
    {"columns": 128, "warps": 16, "stages": 2},
    {"rows": 64, "columns": 64, "warps": 4, "stages": 2},
]


def make_batch(rows: int, num_labels: int, width: int, device: str) -> tuple[Tensor, Tensor]:
    generator = torch.Generator(device).manual_seed(0)
    labels = torch.rand(rows, num_labels, generator=generator, device=device) < LABELS_PER_ROW / num_labels
    embeddings = torch.randn(rows, width, generator=generator, device=device)
    return embeddings.requires_grad_(), labels


def milliseconds(function: Callable[[], None], repetitions: int) -> list[float]:
    """Of each call, the first included."""
    times = []
    for _ in range(repetitions + 1):
        torch.cuda.synchronize()
        start = time.perf_counter()
        function()
        torch.cuda.synchronize()
        times.append(1e3 * (time.perf_counter() - start))
    return times


def measure(
    name: str, kernel: str, embeddings: Tensor, labels: Tensor, title: str, reference: Tensor | None
) -> Tensor:
    """Prints one line; returns the gradient."""
    rows, width, num_labels = *embeddings.shape, labels.shape[1]
    loss: Any = losses.create(name, num_labels, width).to(embeddings.device)
    loss.kernel = kernel
    gradient = embeddings

    def step() -> None:
        nonlocal gradient
        (gradient,) = torch.autograd.grad(loss(embeddings, labels), embeddings)

    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    first, *others = milliseconds(step, 3)
    memory = (torch.cuda.max_memory_allocated() - before) / 1e6
    median = sorted(others)[len(others) // 2]
    label_width = loss.label_sets(labels[:1].float()).shape[1]
    visits = 1 + ceil(width / 256) if loss.kernel_used == "fused" else 1
    products = width + label_width
    operations = 2 * rows**2 * (visits * products + width * (1 if loss.kernel_used == "fused" else 2))
    difference = 0.0 if reference is None else ((gradient - reference).norm() / reference.norm()).item()
    print(
        f"| {name} | {title} | {loss.kernel_used} | {median:.2f} | {min(others):.2f} | {first:.0f} | {memory:.0f} "
        f"| {operations / median / 1e9:.0f} | {difference:.1e} |",
        flush=True,
    )
    return gradient


def compare_forms(name: str, embeddings: Tensor, labels: Tensor) -> None:
    reference = None
    for precision, suffix in (("ieee", ""), ("tf32", ", tf32")):
        torch.backends.cuda.matmul.fp32_precision = precision
        for kernel in ("tile", "fused"):
            times = measure(name, kernel, embeddings, labels, kernel + suffix, reference)
            reference = times if reference is None else reference
    torch.backends.cuda.matmul.fp32_precision = "ieee"


def compare_blocks(name: str, embeddings: Tensor, labels: Tensor) -> None:
    """One kernel's blocks changed at a time, the other kernel as it is chosen otherwise."""
    choose = _fused.blocks_for
    reference = measure(name, "fused", embeddings, labels, "as chosen", None)
    changes = [("row_sums", c) for c in ROW_SUMS_BLOCKS] + [("gradient", c) for c in GRADIENT_BLOCKS]
    for part, change in changes:

        def changed(
            width: int, weighted: bool, part: str = part, change: dict[str, int] = change
        ) -> _fused.BlocksOfPasses:
            both = choose(width, weighted)
            return replace(both, **{part: replace(getattr(both, part), **change)})

        _fused.blocks_for = changed
        title = f"{part} {' '.join(f'{k} {v}' for k, v in change.items())}"
        try:
            measure(name, "fused", embeddings, labels, title, reference)
        except Exception as error:  # a shape that this card has no room for is a result as well
            print(
                f"| {name} | {title} | {type(error).__name__}: {str(error).splitlines()[0][:80]} |",
                flush=True,
            )
    _fused.blocks_for = choose


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[65536])
    parser.add_argument("--labels", type=int, nargs="+", default=[1000])
    parser.add_argument("--width", type=int, nargs="+", default=[128])
    parser.add_argument("--losses", nargs="+", default=list(LOSSES))
    parser.add_argument("--blocks", action="store_true", help="block shapes of the fused form instead")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("benchmarks/kernel_forms.py needs a CUDA device")
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, float32, forward and backward")
    for rows in options.rows:
        for num_labels in options.labels:
            for width in options.width:
                embeddings, labels = make_batch(rows, num_labels, width, "cuda")
                print(f"\nB = {rows:,}, L = {num_labels:,}, D = {width}\n")
                print("| loss | form | kernel used | ms | fastest | first | MB | TFLOP/s | difference |")
                print("|---|---|---|---:|---:|---:|---:|---:|---:|", flush=True)
                for name in options.losses:
                    (compare_blocks if options.blocks else compare_forms)(name, embeddings, labels)


if __name__ == "__main__":
    main()
