"""What a study costs besides training: parts of the CPU time, with a warm worker and with a process for each cell.

    python benchmarks/grid.py            200 cells of `mlp` on vectors (some minutes)
    python benchmarks/grid.py --quick    8 cells (under a minute on a quiet machine)
    python benchmarks/grid.py --study config/default.yaml [--data-root DIR]    a study of yours, in a temporary folder

CPU seconds of all processes, whoever started them. `planning`: Snakemake with nothing to do. `training`: the training
loop of all cells, and `evaluating`: the rest of what a cell does between opening its data and writing its record.
`drawing`: tables, figures, report and what is collected for them. `start-up`: all that is left, which is loading
libraries, Snakemake's share of each job, and reading requests. `overhead` is planning and start-up as a share of all.
The same study is then made with `MLCL_WORKER=off`; `ratio` is how many times more CPU time that takes without drawing.
`identical`: whether the `result` blocks and the scores of all cells are equal bit for bit.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

ROOT = Path(__file__).parents[1]
PARTS = ("Snakefile", "workflow", "profiles", "mlcl", "data_prep", "environment.yml", "paper_tables")
LOSSES = ("bce", "supcon_any", "jaccard", "mulsupcon", "reg")
ROWS, FEATURES, LABELS = 2400, 100, 14
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Size:
    losses: int
    seeds: int
    epochs: int
    heads: dict[str, Any]


FULL = Size(
    5, 40, 20, {"learning_rates": [1.0, 0.1], "weight_decays": [0.1, 0.01, 1e-4], "heads": 3, "epochs": 40}
)
QUICK = Size(2, 4, 3, {"learning_rates": [0.1], "weight_decays": [0.01], "heads": 2, "epochs": 5})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--study", type=Path, help="a study file, in place of the synthetic one")
    parser.add_argument("--data-root", type=Path, help="where the raw files of that study lie")
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--json", type=Path, help="where to write the figures as a list of {case, metric, value}"
    )
    options = parser.parse_args()
    adopt_orphans()
    with tempfile.TemporaryDirectory() as scratch:
        sides = {
            "worker": Side(Path(scratch) / "worker", {}, options.cores),
            "processes": Side(Path(scratch) / "processes", {"MLCL_WORKER": "off"}, options.cores),
        }
        for side in sides.values():
            side.set_up(options)
        rows = list(measure(sides))
    width = max(len(row["metric"]) for row in rows)
    for row in rows:
        print(f"{row['case']:10} {row['metric']:{width}} {row['value']:10.3f}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


def measure(sides: dict[str, Side]) -> Iterator[dict[str, Any]]:
    made: dict[str, float] = {}
    for name, side in sides.items():
        side.run("--until", "prepare")
        planning = side.run("--until", "prepare")
        cells = side.run("--until", "train")
        rest = side.run() - planning
        training, evaluating = side.of_cells()
        made[name] = cells
        total = cells + rest
        parts = {
            "planning": planning,
            "training": training,
            "evaluating": evaluating,
            "drawing": rest,
            "start-up": cells - planning - training - evaluating,
        }
        yield row(name, "cells", len(side.records()))
        yield from (row(name, f"{part} CPU s", seconds) for part, seconds in parts.items())
        yield row(name, "total CPU s", total)
        yield row(name, "overhead %", 100 * (parts["planning"] + parts["start-up"]) / total)
    yield row("both", "ratio", made["processes"] / made["worker"])
    yield row("both", "identical", float(sides["worker"].results() == sides["processes"].results()))


def row(case: str, metric: str, value: float) -> dict[str, Any]:
    return {"case": case, "metric": metric, "value": round(value, 3)}


class Side:
    """A copy of the repository in which the study is made."""

    def __init__(self, folder: Path, environment: dict[str, str], cores: int) -> None:
        self.folder, self.cores, self.arguments = folder, cores, ["--config", "study=config/study.yaml"]
        self.environment = os.environ | {"PYTHONPATH": str(folder)} | environment

    def set_up(self, options: argparse.Namespace) -> None:
        self.folder.mkdir()
        for part in PARTS:
            source = ROOT / part
            copy = shutil.copytree if source.is_dir() else shutil.copy2
            copy(source, self.folder / part)
        (self.folder / "config").mkdir()
        if options.study:
            shutil.copy2(options.study, self.folder / "config" / "study.yaml")
            if options.data_root:
                self.arguments.append(f"data_root={options.data_root.resolve()}")
        else:
            write_study(self.folder, QUICK if options.quick else FULL)
            self.arguments.append("data_root=raw")

    def run(self, *arguments: str) -> float:
        """CPU seconds of a run of the workflow, its worker included."""
        begun = children_cpu_seconds()
        command = [sys.executable, "-m", "snakemake", "--cores", str(self.cores), *arguments, *self.arguments]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            sys.exit(done.stdout + done.stderr)
        wait_for_orphans()
        return children_cpu_seconds() - begun

    def records(self) -> list[Path]:
        return sorted((self.folder / "results").glob("*/*/*/*/*/seed*/metrics.json"))

    def of_cells(self) -> tuple[float, float]:
        """CPU seconds of training and of the rest of what cells do, summed over the records."""
        runs = [json.loads(record.read_text(encoding="utf-8"))["run"] for record in self.records()]
        training = sum(run.get("training_cpu_seconds", 0.0) for run in runs)
        return training, sum(run["cpu_seconds"] for run in runs) - training

    def results(self) -> dict[str, Any]:
        """The `result` blocks and the scores."""
        found: dict[str, Any] = {}
        for record in self.records():
            name = str(record.parent.relative_to(self.folder))
            scores = record.with_name("scores.npz")
            found[name] = json.loads(record.read_text(encoding="utf-8"))["result"], scores.read_bytes()
        return found


def write_study(folder: Path, size: Size) -> None:
    """Vectors with labels that depend on them, and a study of `mlp` cells."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(ROWS, FEATURES)).astype(np.float32)
    scores = features @ rng.normal(size=(FEATURES, LABELS)) + rng.normal(size=(ROWS, LABELS))
    labels = (scores > np.quantile(scores, 0.75, axis=0)).astype(int)
    names = [f"x{number}" for number in range(FEATURES)], [f"label{number}" for number in range(LABELS)]
    (folder / "raw").mkdir()
    lines = [",".join([*names[0], *names[1]])]
    lines += [
        ",".join([*map(str, row), *map(str, truth)]) for row, truth in zip(features, labels, strict=True)
    ]
    (folder / "raw" / "vectors.csv").write_text("\n".join(lines) + "\n")
    study = {
        "title": "Vectors",
        "seeds": list(range(size.seeds)),
        "datasets": {"vectors": {"path": "vectors.csv", "label_columns": names[1]}},
        "encoders": {"vector": {"mlp": None}},
        "losses": dict.fromkeys(LOSSES[: size.losses]),
        "training": {"epochs": size.epochs},
        "linear_evaluation": size.heads,
    }
    (folder / "config" / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))


def adopt_orphans() -> None:
    """Makes this process the parent of processes whose own parent has ended, so that their CPU time is counted."""
    if sys.platform != "linux":
        sys.exit("this benchmark needs Linux")
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def wait_for_orphans() -> None:
    with suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


def children_cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
