"""Time and memory of the losses at many sizes, and the share of what the device can do.

Each loss in each form of the kernel, its (B, B, L) transcription where that fits into memory, and, with one label a
row, pytorch-metric-learning's SupCon loss. Forward and backward; labels are bool, as training has them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from benchmarks.gpu import results
from benchmarks.gpu.machine import copy_rate, matrix_product_rate
from benchmarks.losses import WIDTH, Batch, make_batch, megabytes_of, seconds_of, steps, volume
from mlcl import losses

ROWS, LABELS = (256, 1024, 4096, 16384, 65536), (20, 100, 1000, 4000, 16000)
FIRST = ((256, 20), (1024, 100), (4096, 1000), (16384, 1000), (65536, 1000))
"""Sizes for all losses; the others for the first three."""
LOSSES = ("mulsupcon", "supcon_any", "reg", "jaccard", "abalone", "prototype", "simdissim")
KERNELS = ("tile", "fused")
CLASSES = 100
MEMORY_LIMIT = 24e9
"""Bytes that a transcription may take, by its five (B, B, L) tensors."""
SECONDS = 0.2
"""For the repetitions of one case; at least three of them, one where it takes longer than a second."""
TILE_PASSES = 11
"""Times that an element of a tile goes through memory: products write scores and shared counts (2), the weighting
reads and writes (2), the tile program reads scores and weights twice and writes the gradient (5), two products read it
(2). A form that keeps the tile on chip has none of them."""


def main(
    device: Annotated[str, typer.Option(help="cuda or cpu.")] = "cuda",
    append: Annotated[Path | None, typer.Option(help="Append JSON lines to this file.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Two small sizes.")] = False,
) -> None:
    """Measure, print, append: the sizes of most worth first."""
    size = 8192 if device == "cuda" else 512
    ceilings = {kind: matrix_product_rate(device, kind, size) for kind in ("fp32", "tf32", "bf16")}
    bandwidth = copy_rate(device, 2**30 if device == "cuda" else 2**24)
    grid = dict.fromkeys((*FIRST, *((rows, labels) for rows in ROWS for labels in LABELS)))
    for rows in ROWS[:2] if quick else ROWS:
        for form, step in single_label_steps(rows, device).items():
            tell(append, "supcon_any, one label a row", form, rows, CLASSES, cost(step, device))
    for rows, labels in FIRST[:2] if quick else grid:
        for name in LOSSES if (rows, labels) in FIRST and not quick else LOSSES[:3]:
            for form, step in forms(name, rows, labels, device).items():
                torch.backends.cuda.matmul.allow_tf32 = form.endswith("tf32")
                measured = cost(step, device)
                torch.backends.cuda.matmul.allow_tf32 = False
                if seconds := measured.get("seconds"):
                    work = operations(name, rows, labels)
                    measured |= {f"{kind}_share": work / seconds / rate for kind, rate in ceilings.items()}
                    if form.startswith("tile"):
                        moved = TILE_PASSES * 4 * pairs(name, rows, labels)
                        measured["bandwidth_share"] = moved / seconds / bandwidth
                tell(append, name, form, rows, labels, measured)


def forms(name: str, rows: int, labels: int, device: str) -> dict[str, Callable[[], None]]:
    """One forward and backward pass in each form, by its name."""
    batch = make_batch(rows, labels, device)
    measured = {kernel: kernel_step(name, batch, kernel) for kernel in KERNELS}
    if (rows, labels) in FIRST and device == "cuda":
        measured |= {f"{kernel}, tf32": kernel_step(name, batch, kernel) for kernel in KERNELS}
    if volume(name, rows, labels) * 4 * 5 < MEMORY_LIMIT:
        measured["transcription"] = steps(name, batch)[1]
    return measured


def kernel_step(name: str, batch: Batch, kernel: str) -> Callable[[], None]:
    """One pass of ours in this form of the kernel; raises RuntimeError where the form does not cover the loss."""
    generator = torch.Generator().manual_seed(0)
    loss: Any = losses.create(name, batch.labels.shape[1], WIDTH, generator=generator).to(batch.labels.device)
    loss.kernel = kernel
    labels, leaves = batch.labels.bool(), [batch.embeddings, *loss.parameters()]

    def step() -> None:
        torch.autograd.grad(loss(batch.embeddings, labels), leaves)
        if loss.kernel_used != kernel:
            raise RuntimeError(loss.kernel_used)

    return step


def single_label_steps(rows: int, device: str) -> dict[str, Callable[[], None]]:
    """SupCon with one label a row: ours, and pytorch-metric-learning's where it is installed."""
    generator = torch.Generator().manual_seed(0)
    classes = torch.randint(CLASSES, (rows,), generator=generator)
    labels = torch.nn.functional.one_hot(classes, CLASSES).bool().to(device)
    embeddings = torch.randn(rows, WIDTH, generator=generator).to(device).requires_grad_()
    measured = {kernel: kernel_step("supcon_any", Batch(embeddings, labels), kernel) for kernel in KERNELS}
    try:
        from pytorch_metric_learning.losses import SupConLoss
    except ImportError:
        return measured
    theirs, targets = SupConLoss(temperature=0.1), classes.to(device)

    def library() -> None:
        torch.autograd.grad(theirs(embeddings, targets), embeddings)

    return measured | {"pytorch-metric-learning": library}


def cost(step: Callable[[], None], device: str) -> dict[str, Any]:
    """Fastest time and peak memory of a step, or the reason why there are none."""
    on_gpu = device == "cuda"
    try:
        if on_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated() if on_gpu else 0
        begun = time.perf_counter()
        first = seconds_of([step], 1)[0]  # compiles
        once = min(first, seconds_of([step], 1)[0])
        seconds = seconds_of([step], max(3, min(30, int(SECONDS / once))))[0] if once < 1 else once
        peak = (torch.cuda.max_memory_allocated() - before) / 1e6 if on_gpu else megabytes_of(step, device)
    except torch.OutOfMemoryError:
        return {"reason": "out of memory"}
    except RuntimeError as error:
        return {"reason": str(error).splitlines()[0][:200]}
    spent = time.perf_counter() - begun
    return {"seconds": seconds, "megabytes": peak, "first_seconds": first, "spent": round(spent, 2)}


def pairs(name: str, rows: int, labels: int) -> int:
    """Elements of the matrix of anchors and references."""
    loss: Any = losses.create(name, labels, WIDTH)
    count = {"batch": rows, "prototypes": labels}
    return sum(count[g] for g in loss.anchors) * sum(count[g] for g in loss.references)


def operations(name: str, rows: int, labels: int) -> float:
    """Of the matrix products that the definition needs: scores, their gradient on both sides, shared labels."""
    loss: Any = losses.create(name, labels, WIDTH)
    counts = "batch" in loss.anchors and "batch" in loss.references
    return 6.0 * WIDTH * pairs(name, rows, labels) + 2.0 * labels * rows * rows * counts


def tell(append: Path | None, name: str, form: str, rows: int, labels: int, measured: dict[str, Any]) -> None:
    shown = (
        f"{1e3 * measured['seconds']:.2f} ms, {measured['megabytes']:.0f} MB"
        if "seconds" in measured
        else measured["reason"]
    )
    print(f"{name}, {form}, {rows} x {labels}: {shown}", flush=True)
    results.add(append, "losses", loss=name, form=form, rows=rows, labels=labels, **measured)


if __name__ == "__main__":
    typer.run(main)
