"""Time and memory of the losses' forward and backward pass, against a transcription with (B, B, L) tensors.

    python benchmarks/losses.py                     the table and the figure of all sizes (about 10 minutes)
    python benchmarks/losses.py --quick             two small sizes (under a minute)
    python benchmarks/losses.py --large             B = 16,384, L = 1,000: each loss in a process of its own
    python benchmarks/losses.py --sweep --device cuda   B from 256 to 65,536, L from 20 to 16,000: time, memory, and
                                                    the share of the device's matrix-product rate and bandwidth

Both sides run in one process, in turns, on the same data (D = 256, float32, about five labels a row). Time is the
fastest of the repetitions. Memory is the peak of allocated tensors above the inputs. Where the transcription
would need more than 8 GB, extrapolated from a smaller size, it is not run and its figures are null.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the memory profiler is chatty

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from mlcl import losses

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.gpu import results as campaign
from benchmarks.gpu.machine import copy_rate, matrix_product_rate
from benchmarks.reference_losses import TRANSCRIPTIONS

SIZES = [(32, 54), (256, 103), (256, 1000), (512, 1000), (256, 4000), (1024, 80)]
QUICK_SIZES = [(32, 54), (256, 103)]
LARGE = (16384, 1000)
WIDTH = 256
SWEEP_ROWS, SWEEP_LABELS = (256, 1024, 4096, 16384, 65536), (20, 100, 1000, 4000, 16000)
SWEEP_LOSSES = ("mulsupcon", "supcon_any", "reg", "jaccard", "abalone", "prototype", "simdissim")
KERNELS = ("tile", *(("fused",) if hasattr(losses.PairWeighting, "kernel") else ()))
MEMORY_LIMIT = 8e9
SWEEP_MEMORY_LIMIT = 24e9
SWEEP_SECONDS = 0.4
"""For the repetitions of one case; at least three of them."""
TILE_PASSES = 11
"""Times that an element of a tile goes through memory: products write scores and shared counts (2), the weighting
reads and writes (2), the tile program reads scores and weights twice and writes the gradient (5), two products read it
(2). A form that keeps the tile on chip has none of them."""
LABELS_PER_ROW = 5


@dataclass(frozen=True)
class Batch:
    embeddings: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Cost:
    seconds: float
    megabytes: float


@dataclass(frozen=True)
class Result:
    name: str
    rows: int
    num_labels: int
    ours: Cost
    transcription: Cost | None

    @property
    def case(self) -> str:
        return f"{self.name}-{self.rows}-{self.num_labels}"

    @property
    def speedup(self) -> float | None:
        return self.transcription.seconds / self.ours.seconds if self.transcription else None

    @property
    def memory_ratio(self) -> float | None:
        return self.transcription.megabytes / self.ours.megabytes if self.transcription else None


def make_batch(rows: int, num_labels: int, device: str) -> Batch:
    """Random embeddings; every row has a label and about five of them."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.rand(rows, num_labels, generator=generator) < LABELS_PER_ROW / num_labels
    labels[torch.arange(rows), torch.randint(num_labels, (rows,), generator=generator)] = True
    embeddings = torch.randn(rows, WIDTH, generator=generator)
    return Batch(embeddings.to(device).requires_grad_(), labels.float().to(device))


def steps(name: str, batch: Batch) -> tuple[Callable[[], None], Callable[[], None]]:
    """One forward and backward pass of ours, and of the transcription."""
    generator = torch.Generator().manual_seed(0)
    loss = losses.create(name, batch.labels.shape[1], WIDTH, generator=generator).to(batch.labels.device)
    transcription = TRANSCRIPTIONS[name]
    leaves = [batch.embeddings, *loss.parameters()]

    def ours() -> None:
        torch.autograd.grad(loss(batch.embeddings, batch.labels), leaves)

    def theirs() -> None:
        prototypes = next(loss.parameters(), None)
        value = transcription(batch.embeddings, batch.labels, prototypes, loss.temperature)
        torch.autograd.grad(value, leaves)

    return ours, theirs


def seconds_of(functions: list[Callable[[], None]], repetitions: int) -> list[float]:
    """Fastest time of each function; they take turns so that a busy moment hits all of them."""
    best = [float("inf")] * len(functions)
    for _ in range(repetitions):
        for index, function in enumerate(functions):
            synchronise()
            start = time.perf_counter()
            function()
            synchronise()
            best[index] = min(best[index], time.perf_counter() - start)
    return best


def synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def megabytes_of(function: Callable[[], None], device: str) -> float:
    """Peak of the memory that the allocator handed out during one call."""
    function()
    gc.collect()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        function()
    recorded = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    allocated = peak = 0
    for event in sorted(recorded, key=lambda e: e.start_ns()):
        allocated += event.nbytes()
        peak = max(peak, allocated)
    return peak / 1e6


def expected_bytes(name: str, rows: int, num_labels: int, device: str) -> float:
    """The transcription's memory, extrapolated from a small size in proportion to n * n * L."""
    small = (32, 54)
    _, theirs = steps(name, make_batch(*small, device))
    return megabytes_of(theirs, device) * 1e6 * volume(name, rows, num_labels) / volume(name, *small)


def volume(name: str, rows: int, num_labels: int) -> float:
    if name == "prototype":
        return rows * num_labels
    items = rows + num_labels if name.startswith("reg") else rows
    return items * items * num_labels


def measure(name: str, rows: int, num_labels: int, device: str, budget: float) -> Result:
    """Compare the two on one size, repeating for about `budget` seconds."""
    ours, theirs = steps(name, make_batch(rows, num_labels, device))
    runs = expected_bytes(name, rows, num_labels, device) <= MEMORY_LIMIT
    functions = [ours, theirs] if runs else [ours]
    seconds_of(functions, 3)  # warm up
    once = sum(seconds_of(functions, 1))
    seconds = seconds_of(functions, max(5, min(300, int(budget / once))))
    costs = [Cost(s, megabytes_of(f, device)) for s, f in zip(seconds, functions, strict=True)]
    return Result(name, rows, num_labels, costs[0], costs[1] if runs else None)


def large_case(name: str, device: str) -> None:
    """One pass at the large size; prints seconds and the process's peak memory. Runs in a process of its own."""
    batch = make_batch(*LARGE, device)
    batch = Batch(batch.embeddings, batch.labels.bool())
    loss = losses.create(name, LARGE[1], WIDTH, generator=torch.Generator().manual_seed(0)).to(device)
    start, cpu_start = time.perf_counter(), time.process_time()
    loss(batch.embeddings, batch.labels).backward()
    synchronise()
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    assert batch.embeddings.grad is not None
    assert torch.isfinite(batch.embeddings.grad).all()
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu_seconds, "megabytes": peak_megabytes()}))


def peak_megabytes() -> float:
    """Of this process alone: what `getrusage` says of a child on Linux counts its parent's peak, too."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1e3


def measure_large(name: str) -> Result:
    command = [sys.executable, __file__, "--large-case", name]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    cost = json.loads(output.splitlines()[-1])
    return Result(name, *LARGE, Cost(cost["seconds"], cost["megabytes"]), None)


def sweep(device: str, names: list[str], append: Path | None, quick: bool) -> None:
    """Each loss at all sizes, small ones first; what does not fit into memory says so."""
    size = 8192 if device == "cuda" else 512
    ceilings = {kind: matrix_product_rate(device, kind, size) for kind in ("fp32", "tf32", "bf16")}
    bandwidth = copy_rate(device, 2**30 if device == "cuda" else 2**24)
    sizes = [(rows, labels) for rows in SWEEP_ROWS for labels in SWEEP_LABELS]
    for rows, num_labels in [(256, 20), (1024, 100)] if quick else sizes:
        for name in names[:3] if quick else names:
            batch = make_batch(rows, num_labels, device)
            forms = {kernel: kernel_step(name, batch, kernel) for kernel in KERNELS}
            _, theirs = steps(name, batch)
            if volume(name, rows, num_labels) * 4 * 5 < SWEEP_MEMORY_LIMIT:
                forms["transcription"] = theirs
            for form, step in forms.items():
                found = sweep_case(step, device)
                if seconds := found.get("seconds"):
                    work = operations(name, rows, num_labels)
                    found |= {f"{kind}_share": work / seconds / rate for kind, rate in ceilings.items()}
                    if form == "tile":
                        found["bandwidth_share"] = (
                            TILE_PASSES * 4 * pairs(name, rows, num_labels) / seconds / bandwidth
                        )
                tell_sweep(append, name, form, rows, num_labels, found)
    for rows in (256, 1024) if quick else SWEEP_ROWS:
        for form, step in single_label_steps(rows, device).items():
            tell_sweep(append, "supcon_any, one label a row", form, rows, 100, sweep_case(step, device))


def kernel_step(name: str, batch: Batch, kernel: str) -> Callable[[], None]:
    """One forward and backward pass of ours in this form, labels as training has them."""
    generator = torch.Generator().manual_seed(0)
    loss: Any = losses.create(name, batch.labels.shape[1], WIDTH, generator=generator).to(batch.labels.device)
    labels, leaves = batch.labels.bool(), [batch.embeddings, *loss.parameters()]
    if kernel != "tile":
        loss.kernel = kernel

    def step() -> None:
        torch.autograd.grad(loss(batch.embeddings, labels), leaves)
        if kernel != "tile" and loss.kernel_used != kernel:
            raise RuntimeError(loss.kernel_used)

    return step


def tell_sweep(
    append: Path | None, name: str, form: str, rows: int, num_labels: int, found: dict[str, Any]
) -> None:
    shown_cost = (
        f"{1e3 * found['seconds']:.2f} ms, {found['megabytes']:.0f} MB"
        if "seconds" in found
        else found["reason"]
    )
    print(f"{name}, {form}, {rows} x {num_labels}: {shown_cost}", flush=True)
    campaign.add(append, "losses", loss=name, form=form, rows=rows, labels=num_labels, **found)


def sweep_case(step: Callable[[], None], device: str) -> dict[str, Any]:
    """Fastest time and peak memory of a step, or the reason why there are none."""
    on_gpu = device == "cuda"
    try:
        before = torch.cuda.memory_allocated() if on_gpu else 0
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        once = min(seconds_of([step], 1)[0] for _ in range(2))  # the first one compiles
        seconds = seconds_of([step], max(3, min(30, int(SWEEP_SECONDS / once))))[0] if once < 1 else once
        peak = (torch.cuda.max_memory_allocated() - before) / 1e6 if on_gpu else megabytes_of(step, device)
    except torch.OutOfMemoryError:
        return {"reason": "out of memory"}
    except RuntimeError as error:
        return {"reason": str(error).splitlines()[0][:200]}
    finally:
        if device == "cuda":
            torch.cuda.empty_cache()
    return {"seconds": seconds, "megabytes": peak}


def pairs(name: str, rows: int, num_labels: int) -> int:
    """Elements of the matrix of anchors and references."""
    loss: Any = losses.create(name, num_labels, WIDTH)
    count = {"batch": rows, "prototypes": num_labels}
    return sum(count[g] for g in loss.anchors) * sum(count[g] for g in loss.references)


def operations(name: str, rows: int, num_labels: int) -> float:
    """Of the matrix products that the definition needs: scores, their gradient on both sides, shared labels."""
    loss: Any = losses.create(name, num_labels, WIDTH)
    counts = "batch" in loss.anchors and "batch" in loss.references
    return 6.0 * WIDTH * pairs(name, rows, num_labels) + 2.0 * num_labels * rows * rows * counts


def single_label_steps(rows: int, device: str) -> dict[str, Callable[[], None]]:
    """SupCon with one label a row: ours, and pytorch-metric-learning's where it is installed."""
    generator = torch.Generator().manual_seed(0)
    classes = torch.randint(100, (rows,), generator=generator)
    labels = torch.nn.functional.one_hot(classes, 100).bool().to(device)
    embeddings = torch.randn(rows, WIDTH, generator=generator).to(device).requires_grad_()
    loss = losses.create("supcon_any", 100, WIDTH)

    def ours() -> None:
        torch.autograd.grad(loss(embeddings, labels), embeddings)

    try:
        from pytorch_metric_learning.losses import SupConLoss
    except ImportError:
        return {"tile": ours}
    theirs, targets = SupConLoss(temperature=0.1), classes.to(device)

    def library() -> None:
        torch.autograd.grad(theirs(embeddings, targets), embeddings)

    return {"tile": ours, "pytorch-metric-learning": library}


def table(results: list[Result]) -> str:
    lines = [
        "| loss | B | L | ours, ms | transcription, ms | times faster | ours, MB | transcription, MB | memory ratio |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for r in results:
        theirs = r.transcription
        lines.append(
            f"| {r.name} | {r.rows} | {r.num_labels} | {1e3 * r.ours.seconds:.2f} "
            f"| {f'{1e3 * theirs.seconds:.2f}' if theirs else '-'} | {shown(r.speedup)} "
            f"| {r.ours.megabytes:.1f} | {f'{theirs.megabytes:.1f}' if theirs else '-'} | {shown(r.memory_ratio)} |"
        )
    return "\n".join(lines)


def shown(ratio: float | None) -> str:
    if ratio is None:
        return "-"
    return f"{ratio:.0f}" if ratio >= 20 else f"{ratio:.1f}"


def records(results: list[Result]) -> list[dict[str, object]]:
    return [
        {"case": r.case, "metric": metric, "value": value}
        for r in results
        for metric, value in (
            ("seconds", r.ours.seconds),
            ("megabytes", r.ours.megabytes),
            ("transcription_seconds", r.transcription and r.transcription.seconds),
            ("transcription_megabytes", r.transcription and r.transcription.megabytes),
            ("speedup", r.speedup),
            ("memory_ratio", r.memory_ratio),
        )
    ]


def draw(results: list[Result], path: Path) -> None:
    """Two panels, times faster and memory ratio, one line of points for each size."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = list(dict.fromkeys(r.name for r in results))
    sizes = list(dict.fromkeys((r.rows, r.num_labels) for r in results))
    figure, axes = plt.subplots(
        1, 2, figsize=(10, 0.42 * len(names) + 1.6), sharey=True, layout="constrained"
    )
    colours = plt.get_cmap("viridis")(torch.linspace(0, 0.92, max(len(sizes), 2)).numpy())
    for axis, title, attribute in (
        (axes[0], "times faster", "speedup"),
        (axes[1], "times less memory", "memory_ratio"),
    ):
        for index, size in enumerate(sizes):
            chosen = [r for r in results if (r.rows, r.num_labels) == size and getattr(r, attribute)]
            axis.scatter(
                [getattr(r, attribute) for r in chosen],
                [names.index(r.name) + 0.11 * (index - (len(sizes) - 1) / 2) for r in chosen],
                color=colours[index],
                label=f"B = {size[0]}, L = {size[1]}",
                s=26,
            )
        axis.set_xscale("log")
        axis.axvline(1, color="grey", linewidth=0.8)
        axis.set_xlabel(f"{title} than the (B, B, L) transcription")
        axis.grid(axis="x", alpha=0.3)
    axes[0].set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="two small sizes, few repetitions")
    parser.add_argument("--large", action="store_true", help="every loss at B = 16,384, L = 1,000 instead")
    parser.add_argument("--sweep", action="store_true", help="many sizes, for a GPU")
    parser.add_argument("--append", type=Path, help="append a JSON line for each case of the sweep")
    parser.add_argument("--losses", nargs="+", choices=sorted(TRANSCRIPTIONS), default=list(TRANSCRIPTIONS))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu"
    )
    parser.add_argument("--json", type=Path, help="write [{case, metric, value}, ...]")
    parser.add_argument("--table", type=Path, help="write the table (Markdown)")
    parser.add_argument("--figure", type=Path, help="write the figure (PNG or PDF)")
    parser.add_argument("--large-case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.large_case:
        large_case(options.large_case, options.device)
        return
    if options.sweep:
        named = options.losses if options.losses != list(TRANSCRIPTIONS) else list(SWEEP_LOSSES)
        sweep(options.device, named, options.append, options.quick)
        return
    results = []
    if options.large:
        names = [n for n in losses.names() if losses.describe(n).inputs == "embeddings"]
        results = [report(measure_large(name)) for name in names]
    else:
        budget = 0.3 if options.quick else 1.0
        for rows, num_labels in QUICK_SIZES if options.quick else SIZES:
            for name in options.losses:
                results.append(report(measure(name, rows, num_labels, options.device, budget)))
    print(f"\n{options.device}, {options.threads} threads, torch {torch.__version__}, D = {WIDTH}, float32\n")
    print(table(results))
    if options.json:
        options.json.write_text(json.dumps(records(results), indent=1))
    if options.table:
        options.table.write_text(table(results) + "\n")
    if options.figure:
        draw(results, options.figure)


def report(result: Result) -> Result:
    print(
        f"{result.case}: {1e3 * result.ours.seconds:.2f} ms, {shown(result.speedup)} x",
        file=sys.stderr,
        flush=True,
    )
    return result


if __name__ == "__main__":
    main()
