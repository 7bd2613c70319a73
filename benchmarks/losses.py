"""Time and memory of the losses' forward and backward pass, against a transcription with (B, B, L) tensors.

    python benchmarks/losses.py                     the table and the figure of all sizes (about 10 minutes)
    python benchmarks/losses.py --quick             two small sizes (under a minute)
    python benchmarks/losses.py --large             B = 16,384, L = 1,000: each loss in a process of its own
    python benchmarks/losses.py --kernel fused      the kernel's fused form (CUDA), where it covers the loss

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
from benchmarks.reference_losses import TRANSCRIPTIONS

SIZES = [(32, 54), (256, 103), (256, 1000), (512, 1000), (256, 4000), (1024, 80)]
QUICK_SIZES = [(32, 54), (256, 103)]
LARGE = (16384, 1000)
WIDTH = 256
MEMORY_LIMIT = 8e9
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


def steps(name: str, batch: Batch, kernel: str = "tile") -> tuple[Callable[[], None], Callable[[], None]]:
    """One forward and backward pass of ours, and of the transcription."""
    generator = torch.Generator().manual_seed(0)
    loss: Any = losses.create(name, batch.labels.shape[1], WIDTH, generator=generator).to(batch.labels.device)
    loss.kernel = kernel
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


def measure(
    name: str, rows: int, num_labels: int, device: str, budget: float, kernel: str = "tile"
) -> Result:
    """Compare the two on one size, repeating for about `budget` seconds."""
    ours, theirs = steps(name, make_batch(rows, num_labels, device), kernel)
    runs = expected_bytes(name, rows, num_labels, device) <= MEMORY_LIMIT
    functions = [ours, theirs] if runs else [ours]
    seconds_of(functions, 3)  # warm up
    once = sum(seconds_of(functions, 1))
    seconds = seconds_of(functions, max(5, min(300, int(budget / once))))
    costs = [Cost(s, megabytes_of(f, device)) for s, f in zip(seconds, functions, strict=True)]
    return Result(name, rows, num_labels, costs[0], costs[1] if runs else None)


def large_case(name: str, device: str, kernel: str) -> None:
    """One pass at the large size; prints seconds and the process's peak memory. Runs in a process of its own."""
    batch = make_batch(*LARGE, device)
    batch = Batch(batch.embeddings, batch.labels.bool())
    loss: Any = losses.create(name, LARGE[1], WIDTH, generator=torch.Generator().manual_seed(0)).to(device)
    loss.kernel = kernel
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


def measure_large(name: str, kernel: str) -> Result:
    command = [sys.executable, __file__, "--large-case", name, "--kernel", kernel]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    cost = json.loads(output.splitlines()[-1])
    return Result(name, *LARGE, Cost(cost["seconds"], cost["megabytes"]), None)


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
    parser.add_argument("--losses", nargs="+", choices=sorted(TRANSCRIPTIONS), default=list(TRANSCRIPTIONS))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu"
    )
    parser.add_argument(
        "--kernel",
        choices=["tile", "fused"],
        default="tile",
        help="fused: CUDA only; losses it does not cover take the tile form",
    )
    parser.add_argument("--json", type=Path, help="write [{case, metric, value}, ...]")
    parser.add_argument("--table", type=Path, help="write the table (Markdown)")
    parser.add_argument("--figure", type=Path, help="write the figure (PNG or PDF)")
    parser.add_argument("--large-case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.large_case:
        large_case(options.large_case, options.device, options.kernel)
        return
    results = []
    if options.large:
        names = [n for n in losses.names() if losses.describe(n).inputs == "embeddings"]
        results = [report(measure_large(name, options.kernel)) for name in names]
    else:
        budget = 0.3 if options.quick else 1.0
        for rows, num_labels in QUICK_SIZES if options.quick else SIZES:
            for name in options.losses:
                measured = measure(name, rows, num_labels, options.device, budget, options.kernel)
                results.append(report(measured))
    print(
        f"\n{options.device}, {options.threads} threads, torch {torch.__version__}, D = {WIDTH}, float32, "
        f"{options.kernel} form of the kernel\n"
    )
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
