"""Time of linear evaluation, against one head at a time and against a loader of single items.

    python benchmarks/linear_evaluation.py                  about 10 minutes
    python benchmarks/linear_evaluation.py --quick          fewer turns, metrics after 2 epochs (under a minute)
    python benchmarks/linear_evaluation.py --device cuda

5,000 training rows of 768 features, 54 labels with a long tail (synthetic: low rank and noise); the study's grid of
2 learning rates x 4 weight decays x 3 heads, batches of 256, 40 epochs. Denormals are flushed on all sides.

Speed: every side fits for 5 epochs, so that what comes once a fit weighs little, in turns, so that a busy moment hits
all of them; the median turn counts, for every number of threads. Ours trains the whole grid; one head at a time
trains the three heads of one combination, of which each takes as long, and its time is multiplied by the 8
combinations. The loader of single items is asked for as the study's released code does, with 4 worker processes,
and without any, in this process. The targets are for two threads.

Metrics of the test rows: whole fits, on one thread. The two sides draw other seeds, so their means differ by seed
noise: the difference is printed with its standard error.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
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
TIMED_EPOCHS = 5
METRICS = ("micro_f1", "macro_f1", "hamming_loss", "map")
TARGETS = {"one_head": 3.5, "items_4_workers": 7.0}
"""Times as fast, on two threads."""
TITLES = {
    "ours": "ours",
    "one_head": "one head at a time, tensors in memory",
    "items_4_workers": "one head at a time, loader of items with 4 workers, as released",
    "items": "one head at a time, loader of items without workers",
}

Split = tuple[Tensor, Tensor]


@dataclass
class Speed:
    """Seconds of one epoch of the grid by side, and of its matrix products alone; the median of the turns."""

    threads: int
    seconds: dict[str, float]
    products: float

    def speedup(self, side: str) -> float:
        return self.seconds[side] / self.seconds["ours"]


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


def measure_speed(splits: dict[str, Split], grid: linear.Grid, threads: int, turns: int) -> Speed:
    """Seconds an epoch of fits on the training rows; the validation rows are ten of them, for both sides."""
    torch.set_num_threads(threads)
    x, y = splits["train"]
    few = {"train": (x, y), "val": (x[:10], y[:10])}
    timed = replace(grid, epochs=TIMED_EPOCHS)
    part = replace(timed, learning_rates=(0.1,), weight_decays=(0.01,))
    parts, heads = len(grid.combinations), len(grid.combinations) * grid.heads
    one_by_one = partial(reference_linear.fit, *few["train"], *few["val"], part, 0)
    workers = partial(reference_linear.item_batches, workers=4)
    sides: dict[str, tuple[int, Callable[[], object]]] = {
        "ours": (1, lambda: fit_ours(few, timed, 0)),
        "one_head": (parts, one_by_one),
        "items_4_workers": (parts, lambda: one_by_one(workers)),
        "items": (parts, lambda: one_by_one(reference_linear.item_batches)),
    }
    turns_of: dict[str, list[float]] = {side: [] for side in (*sides, "products")}
    for number in range(turns):
        for side, (factor, fit) in sides.items():
            turns_of[side].append(factor * seconds_of(fit) / TIMED_EPOCHS)
        turns_of["products"].append(seconds_of_products(x, heads * LABELS, grid.batch_size))
        shown = ", ".join(f"{side} {seconds[-1]:.2f} s" for side, seconds in turns_of.items())
        print(f"{threads} threads, turn {number + 1}: {shown}", file=sys.stderr, flush=True)
    seconds = {side: statistics.median(turns_of[side]) for side in sides}
    return Speed(threads, seconds, statistics.median(turns_of["products"]))


def seconds_of_products(x: Tensor, columns: int, batch_size: int) -> float:
    """The two matrix products of each step of an epoch, alone: what no order of the arithmetic can save."""
    inputs, parameters = x[:batch_size].contiguous(), x.new_zeros(WIDTH, columns)
    errors, gradient = x.new_ones(batch_size, columns), torch.empty_like(parameters)

    def products() -> None:
        torch.mm(inputs, parameters, out=errors)
        torch.mm(inputs.T, errors, out=gradient)

    return statistics.median(seconds_of(products) for _ in range(20)) * len(x) / batch_size


def measure_metrics(
    splits: dict[str, Split], grid: linear.Grid, seeds: int
) -> tuple[list[Agreement], dict[str, float]]:
    """Metrics of whole fits on both sides, and the seconds of each side's fastest."""
    torch.set_num_threads(1)
    found: dict[str, list[dict[str, float]]] = {"ours": [], "one_head": []}
    fastest = dict.fromkeys(found, float("inf"))
    x, y = splits["test"]
    for seed in range(seeds):
        for side, fit, own_seed in (("ours", fit_ours, seed), ("one_head", fit_one_by_one, 1000 + seed)):
            start = time.perf_counter()
            probabilities = fit(splits, grid, own_seed)
            synchronise()
            fastest[side] = min(fastest[side], time.perf_counter() - start)
            found[side].append(evaluate(y.cpu().numpy(), probabilities(x).cpu().numpy()))
        print(f"metrics: {seed + 1} of {seeds} seeds", file=sys.stderr, flush=True)
    agreements = [
        Agreement(metric, *([run[metric] for run in found[side]] for side in ("ours", "one_head")))
        for metric in METRICS
    ]
    return agreements, fastest


def gigaflops(grid: linear.Grid) -> float:
    """Arithmetic of the products in one epoch."""
    columns = len(grid.combinations) * grid.heads * LABELS
    return 2 * 2 * ROWS["train"] * WIDTH * columns / 1e9


def speed_table(results: list[Speed], grid: linear.Grid) -> str:
    lines = ["| threads | side | seconds an epoch | times ours | target |", "|---:|---|---:|---:|---|"]
    for r in results:
        for side, title in TITLES.items():
            target = TARGETS.get(side) if r.threads == 2 else None
            met = (
                "" if target is None else f">= {target:g}: {'met' if r.speedup(side) >= target else 'missed'}"
            )
            lines.append(f"| {r.threads} | {title} | {r.seconds[side]:.3f} | {r.speedup(side):.1f} | {met} |")
        rate = gigaflops(grid) / r.products
        share = r.products / r.seconds["ours"]
        lines.append(
            f"| {r.threads} | our products alone, {rate:.0f} GFLOP/s | {r.products:.3f} | {share:.2f} | |"
        )
    return "\n".join(lines)


def agreement_table(agreements: list[Agreement]) -> str:
    lines = [
        "| test metric | seeds a side | ours, mean ± sd | one head at a time, mean ± sd "
        "| difference ± standard error | within 3 |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for a in agreements:
        sides = [f"{statistics.mean(v):.4f} ± {statistics.stdev(v):.4f}" for v in (a.ours, a.theirs)]
        lines.append(
            f"| {a.metric} | {len(a.ours)} | {sides[0]} | {sides[1]} "
            f"| {a.difference:+.4f} ± {a.standard_error:.4f} | {'yes' if a.within_noise else 'no'} |"
        )
    return "\n".join(lines)


def records(
    results: list[Speed], agreements: list[Agreement], fits: dict[str, float]
) -> list[dict[str, object]]:
    rows: list[tuple[str, str, float]] = []
    for r in results:
        case = f"linear-{r.threads}-threads"
        rows += [(case, f"{side}_seconds_an_epoch", seconds) for side, seconds in r.seconds.items()]
        rows += [(case, f"{side}_speedup", r.speedup(side)) for side in TITLES if side != "ours"]
        rows.append((case, "products_seconds_an_epoch", r.products))
    rows += [("linear-whole-fit-1-thread", f"{side}_seconds", seconds) for side, seconds in fits.items()]
    for a in agreements:
        case = f"linear-{a.metric}"
        for side, values in (("ours", a.ours), ("one_head", a.theirs)):
            rows += [
                (case, f"{side}_mean", statistics.mean(values)),
                (case, f"{side}_sd", statistics.stdev(values)),
            ]
        rows += [(case, "difference", a.difference), (case, "standard_error", a.standard_error)]
        rows.append((case, "seeds", len(a.ours)))
    return [{"case": case, "metric": metric, "value": value} for case, metric, value in rows]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="3 turns; metrics of 3 seeds after 2 epochs")
    parser.add_argument("--turns", type=int, help="of each side for its speed (default 15)")
    parser.add_argument("--seeds", type=int, help="of each side for its metrics, at least 2 (default 6)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--json", type=Path, help="write [{case, metric, value}, ...]")
    options = parser.parse_args()
    turns = options.turns or (3 if options.quick else 15)
    seeds = options.seeds or (3 if options.quick else 6)
    if seeds < 2:
        parser.error("--seeds: at least 2, or there is no seed noise to measure")
    torch.set_flush_denormal(True)
    warnings.filterwarnings("ignore", message=".*worker processes.*")
    grid = linear.Grid(epochs=2) if options.quick else linear.Grid()
    splits = make_splits(options.device)
    results = [measure_speed(splits, grid, threads, turns) for threads in options.threads]
    print(
        f"\n{options.device}, torch {torch.__version__}, {ROWS['train']} x {WIDTH}, {LABELS} labels, "
        f"{len(grid.combinations) * grid.heads} heads, {gigaflops(grid):.1f} GFLOP of products an epoch\n"
    )
    print(speed_table(results, grid), flush=True)
    agreements, fits = measure_metrics(splits, grid, seeds)
    seconds = ", ".join(f"{TITLES[side]} {value:.1f} s" for side, value in fits.items())
    print(f"\nWhole fits of {grid.epochs} epochs on one thread: {seconds}\n")
    print(agreement_table(agreements))
    if options.json:
        options.json.write_text(json.dumps(records(results, agreements, fits), indent=1) + "\n")


if __name__ == "__main__":
    main()
