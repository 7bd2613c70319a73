"""Time of linear evaluation, against one head at a time and against a loader of single items.

    python benchmarks/linear_evaluation.py                  the study's grid, 40 epochs (about 10 minutes)
    python benchmarks/linear_evaluation.py --quick          2 epochs (under a minute)
    python benchmarks/linear_evaluation.py --device cuda

5,000 training rows of 768 features, 54 labels with a long tail (synthetic: low rank and noise); 2 learning rates x
4 weight decays x 3 heads, batches of 256. All sides run in one process, in turns, with denormals flushed; each
turn has a seed of its own. Time is the fastest turn. The loaders of single items (in this process, and with the
4 worker processes of the study's released code) are timed on one head for a few epochs, and that is multiplied
by the number of heads and epochs; all other times are of whole fits, choice on validation included.

Metrics are those of the test rows. The two sides draw other seeds, so their means differ by seed noise: the
difference is printed with its standard error.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from mlcl.evaluation import linear
from mlcl.evaluation.metrics import evaluate

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks import reference_linear

ROWS = {"train": 5000, "val": 1000, "test": 1000}
WIDTH, LABELS, RANK = 768, 54, 64
METRICS = ("micro_f1", "macro_f1", "hamming_loss", "map")
TARGETS = {"one_head": 3.5, "items": 7.0, "items_4_workers": 7.0}
TITLES = {
    "ours": "ours",
    "one_head": "one head at a time, tensors in memory",
    "items": "one head at a time, loader of items in this process (extrapolated)",
    "items_4_workers": "one head at a time, loader of items with 4 workers (extrapolated)",
}

Split = tuple[Tensor, Tensor]


@dataclass
class Measured:
    """One number of threads: seconds of each turn, metrics of each turn's test rows, by side."""

    threads: int
    seconds: dict[str, list[float]] = field(default_factory=dict)
    metrics: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    products: float = float("inf")

    def fastest(self, side: str) -> float:
        return min(self.seconds[side])

    def speedup(self, side: str) -> float:
        return self.fastest(side) / self.fastest("ours")


def make_splits(device: str) -> dict[str, Split]:
    """Features of low rank and noise; labels from the same latents, the r-th most frequent in 30 % / r^0.9 of rows."""
    generator = torch.Generator().manual_seed(0)
    total = sum(ROWS.values())
    latent = torch.randn(total, RANK, generator=generator) * torch.arange(1, RANK + 1) ** -0.25
    features = torch.tanh(latent @ torch.randn(RANK, WIDTH, generator=generator) / RANK**0.5)
    features += 0.3 * torch.randn(total, WIDTH, generator=generator)
    scores = latent @ torch.randn(RANK, LABELS, generator=generator)
    scores += 0.3 * scores.std() * torch.randn(total, LABELS, generator=generator)
    share = 0.3 / torch.arange(1, LABELS + 1) ** 0.9
    rank_of_row = scores.argsort(dim=0, descending=True).argsort(dim=0)
    labels = (rank_of_row < share * total).to(torch.uint8)
    sizes = list(ROWS.values())
    parts = zip(ROWS, features.to(device).split(sizes), labels.to(device).split(sizes), strict=True)
    return {name: (x, y) for name, x, y in parts}


def fit_ours(splits: dict[str, Split], grid: linear.Grid, seed: int) -> Callable[[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return linear.fit(*splits["train"], *splits["val"], grid, generator).probabilities


def fit_one_by_one(splits: dict[str, Split], grid: linear.Grid, seed: int) -> Callable[[Tensor], Tensor]:
    return reference_linear.fit(*splits["train"], *splits["val"], grid, seed)


def seconds_of(function: Callable[[], object]) -> float:
    synchronise()
    start = time.perf_counter()
    function()
    synchronise()
    return time.perf_counter() - start


def synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def turn(measured: Measured, splits: dict[str, Split], grid: linear.Grid, seed: int) -> None:
    """One whole fit of each side that is fitted as a whole."""
    for side, fit, own_seed in (("ours", fit_ours, seed), ("one_head", fit_one_by_one, seed + 1000)):
        kept: list[Callable[[Tensor], Tensor]] = []
        once = seconds_of(lambda fit=fit, s=own_seed, kept=kept: kept.append(fit(splits, grid, s)))  # type: ignore[misc]
        measured.seconds.setdefault(side, []).append(once)
        x, y = splits["test"]
        found = evaluate(y.cpu().numpy(), kept[0](x).cpu().numpy())
        measured.metrics.setdefault(side, []).append({name: found[name] for name in METRICS})


def time_loaders(measured: Measured, splits: dict[str, Split], grid: linear.Grid, epochs: int) -> None:
    """One head for a few epochs, multiplied by what the grid has more of."""
    small = linear.Grid((0.1,), (0.01,), heads=1, epochs=epochs, batch_size=grid.batch_size)
    factor = len(grid.combinations) * grid.heads * grid.epochs / epochs
    for side, workers in (("items", 0), ("items_4_workers", 4)):
        batches = partial(reference_linear.item_batches, workers=workers)
        fit = partial(reference_linear.fit, *splits["train"], *splits["val"], small, 0, batches)
        measured.seconds.setdefault(side, []).append(factor * seconds_of(fit))


def time_products(measured: Measured, splits: dict[str, Split], grid: linear.Grid) -> None:
    """The two matrix products of each step, alone: what no ordering of the arithmetic can save."""
    x = splits["train"][0]
    columns = len(grid.combinations) * grid.heads * LABELS
    inputs, parameters = x[: grid.batch_size].contiguous(), x.new_zeros(WIDTH, columns)
    errors, gradient = x.new_ones(grid.batch_size, columns), torch.empty_like(parameters)

    def products() -> None:
        torch.mm(inputs, parameters, out=errors)
        torch.mm(inputs.T, errors, out=gradient)

    one = min(seconds_of(products) for _ in range(30))
    measured.products = min(measured.products, one * grid.epochs * len(x) / grid.batch_size)


def measure(splits: dict[str, Split], grid: linear.Grid, threads: int, seeds: Sequence[int]) -> Measured:
    torch.set_num_threads(threads)
    measured = Measured(threads)
    loader_epochs = min(2, grid.epochs)
    for seed in seeds:
        turn(measured, splits, grid, seed)
        time_loaders(measured, splits, grid, loader_epochs)
        time_products(measured, splits, grid)
        print(
            f"{threads} threads, seed {seed}: "
            + ", ".join(f"{side} {seconds[-1]:.2f} s" for side, seconds in measured.seconds.items()),
            file=sys.stderr,
            flush=True,
        )
    return measured


def gigaflops(grid: linear.Grid) -> float:
    """Arithmetic of the products in one fit."""
    columns = len(grid.combinations) * grid.heads * LABELS
    return 2 * 2 * ROWS["train"] * grid.epochs * (WIDTH + 1) * columns / 1e9


def time_table(results: list[Measured], grid: linear.Grid) -> str:
    lines = ["| threads | side | seconds | times slower than ours | target |", "|---:|---|---:|---:|---|"]
    for r in results:
        for side, title in TITLES.items():
            target = TARGETS.get(side)
            met = (
                "" if target is None else f">= {target:g}: {'met' if r.speedup(side) >= target else 'missed'}"
            )
            ratio = "" if target is None else f"{r.speedup(side):.1f}"
            lines.append(f"| {r.threads} | {title} | {r.fastest(side):.2f} | {ratio} | {met} |")
        rate = gigaflops(grid) / r.products
        lines.append(f"| {r.threads} | the products alone ({rate:.0f} GFLOP/s) | {r.products:.2f} | | |")
    return "\n".join(lines)


@dataclass(frozen=True)
class Agreement:
    """A metric on both sides over the seeds."""

    metric: str
    ours: list[float]
    theirs: list[float]

    @property
    def difference(self) -> float:
        return statistics.mean(self.ours) - statistics.mean(self.theirs)

    @property
    def standard_error(self) -> float:
        spread = statistics.variance(self.ours) / len(self.ours)
        return float((spread + statistics.variance(self.theirs) / len(self.theirs)) ** 0.5)

    @property
    def within_noise(self) -> bool:
        """Within 3 standard errors."""
        return abs(self.difference) <= 3 * self.standard_error


def agreements(results: list[Measured]) -> list[Agreement]:
    def values(side: str, metric: str) -> list[float]:
        return [found[metric] for r in results for found in r.metrics[side]]

    return [Agreement(metric, values("ours", metric), values("one_head", metric)) for metric in METRICS]


def agreement_table(found: list[Agreement]) -> str:
    lines = [
        "| test metric | seeds a side | ours, mean ± sd | one head at a time, mean ± sd "
        "| difference ± standard error | within 3 |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for a in found:
        sides = [f"{statistics.mean(v):.4f} ± {statistics.stdev(v):.4f}" for v in (a.ours, a.theirs)]
        lines.append(
            f"| {a.metric} | {len(a.ours)} | {sides[0]} | {sides[1]} "
            f"| {a.difference:+.4f} ± {a.standard_error:.4f} | {'yes' if a.within_noise else 'no'} |"
        )
    return "\n".join(lines)


def records(results: list[Measured], found: list[Agreement]) -> list[dict[str, object]]:
    rows: list[tuple[str, str, float]] = []
    for r in results:
        case = f"linear-{r.threads}-threads"
        rows += [(case, f"{side}_seconds", r.fastest(side)) for side in TITLES]
        rows += [(case, f"{side}_speedup", r.speedup(side)) for side in TARGETS]
        rows.append((case, "products_seconds", r.products))
    for a in found:
        case = f"linear-{a.metric}"
        for side, values in (("ours", a.ours), ("one_head", a.theirs)):
            rows += [
                (case, f"{side}_mean", statistics.mean(values)),
                (case, f"{side}_sd", statistics.stdev(values)),
            ]
        rows += [(case, "difference", a.difference), (case, "standard_error", a.standard_error)]
    return [{"case": case, "metric": metric, "value": value} for case, metric, value in rows]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="2 epochs instead of 40")
    parser.add_argument("--turns", type=int, default=3, help="turns for each number of threads; at least 2")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--json", type=Path, help="write [{case, metric, value}, ...]")
    options = parser.parse_args()
    if options.turns < 2:
        parser.error("--turns: at least 2, or there is no seed noise to measure")
    torch.set_flush_denormal(True)
    grid = linear.Grid(epochs=2) if options.quick else linear.Grid()
    splits = make_splits(options.device)
    results = []
    for index, threads in enumerate(options.threads):
        seeds = range(index * options.turns, (index + 1) * options.turns)
        results.append(measure(splits, grid, threads, seeds))
    print(
        f"\n{options.device}, torch {torch.__version__}, {ROWS['train']} x {WIDTH}, {LABELS} labels, "
        f"{len(grid.combinations) * grid.heads} heads, {grid.epochs} epochs: {gigaflops(grid):.0f} GFLOP of products\n"
    )
    print(time_table(results, grid), "\n")
    found = agreements(results)
    print(agreement_table(found))
    if options.json:
        options.json.write_text(json.dumps(records(results, found), indent=1) + "\n")


if __name__ == "__main__":
    main()
