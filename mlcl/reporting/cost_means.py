"""What cells cost: time, memory, rates, and the parts of a training step."""

from __future__ import annotations

from statistics import fmean

import pandas as pd

from mlcl.records.collect import STEP
from mlcl.reporting.results import ROW, Results

COMPUTE = "compute_seconds"


def mean_costs(results: Results, cost: str) -> dict[tuple[str, ...], float]:
    """row -> mean over seeds of a cost of costs.csv, or of COMPUTE."""
    if cost == COMPUTE:
        return compute_seconds(results)
    values = results.costs[results.costs["cost"] == cost]
    result: dict[tuple[str, ...], list[float]] = {}
    for *row, value in zip(*(values[column].tolist() for column in [*ROW, "value"]), strict=True):
        result.setdefault(tuple(row), []).append(value)
    return {row: fmean(of_seeds) for row, of_seeds in result.items()}


def costs_by_encoder(results: Results, cost: str) -> dict[str, dict[str, float]]:
    """encoder -> loss -> mean over datasets and seeds, of the study itself.

    Only over the datasets on which all losses that ever went well with the encoder did so: what they cost can then
    be compared. Encoders without such a dataset are left out."""
    means = mean_costs(results, cost)
    result = {}
    for encoder in results.outline.encoders:
        rows = {
            loss: {
                dataset: means[row]
                for dataset in results.outline.datasets
                if (row := (dataset, encoder, loss, "base")) in means and results.rows[row].complete
            }
            for loss in results.outline.losses
        }
        complete = {loss: costs for loss, costs in rows.items() if costs}
        if shared := set.intersection(*map(set, complete.values())) if complete else set():
            result[encoder] = {
                loss: fmean(costs[dataset] for dataset in shared) for loss, costs in complete.items()
            }
    return result


def step_parts(results: Results) -> list[str]:
    """The parts into which the time of a step is split, in the order of the records."""
    names = results.costs["cost"].drop_duplicates().tolist()
    return [name.removeprefix(STEP) for name in names if name.startswith(STEP)]


def compute_seconds(results: Results) -> dict[tuple[str, ...], float]:
    """row -> mean over seeds of the seconds that a cell keeps its processor busy: CPU seconds, or where it used an
    accelerator the wall seconds for which it held that. Wall seconds on a shared CPU would tell of its other users."""
    wall, on_device = mean_costs(results, "wall_seconds"), mean_costs(results, "peak_device_memory_mb")
    return mean_costs(results, "cpu_seconds") | {row: wall[row] for row in on_device if row in wall}


def compute_in_words(results: Results) -> str:
    """Of all cells: of CPU cores, and of accelerators by the clock for the cells that held one."""
    costs = results.costs.pivot_table(index=[*ROW, "seed"], columns="cost", values="value")
    columns = (
        costs.get(name, pd.Series(dtype=float))
        for name in ("cpu_seconds", "wall_seconds", "peak_device_memory_mb")
    )
    cpu, wall, device = (column.reindex(costs.index) for column in columns)
    times = {"a CPU core": cpu[device.isna()].sum(), "an accelerator": wall[device.notna()].sum()}
    return " and ".join(f"{t / 60:.1f} minutes of {what}" for what, t in times.items() if t) or "not recorded"
