"""Time and memory of reporting, from synthetic records: what a large study costs after its last cell.

    python benchmarks/reporting.py            3,000 cells x 20 metrics (a few minutes)
    python benchmarks/reporting.py --quick    300 cells (under a minute)

Cases: `aggregate` (records -> CSV files), `report` (CSV files -> statistics, tables, figures, page; LaTeX included
where it is installed), `rescore` (stored scores of 5,000 x 28, validation and test, -> all metrics), `jackknife-*`
(the jackknife of one cell, 5,000 x 28). Seconds are wall time; `cpu_seconds` tell a busy machine from a slow program.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import chdir
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

from benchmarks.synthetic_study import SyntheticStudy, write_card
from mlcl import reporting
from mlcl.records.collect import collect
from mlcl.records.outline import open_study
from mlcl.records.paths import CellId
from mlcl.records.record import SCORES, Record, write_record
from mlcl.records.rescore import metrics_of, write_scores
from mlcl.reporting.statistics import examples

STUDY = "synthetic"
METRICS = (
    "micro_f1", "macro_f1", "map", "hamming_loss", "subset_accuracy", "weighted_f1", "samples_f1", "cp", "cr", "cf1",
    "op", "or", "of1", "micro_map", "macro_auc", "lrap", "ranking_loss", "macro_f1_head", "macro_f1_medium",
    "macro_f1_tail",
)  # fmt: skip
ROWS, LABELS = 5000, 28


@dataclass(frozen=True)
class Size:
    datasets: int
    losses: int
    variants: int
    seeds: int
    rescored: int


FULL = Size(datasets=20, losses=10, variants=5, seeds=3, rescored=20)
QUICK = Size(datasets=4, losses=5, variants=5, seeds=3, rescored=5)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument(
        "--json", type=Path, help="where to write the figures as a list of {case, metric, value}"
    )
    options = parser.parse_args()
    rows = list(measure(QUICK if options.quick else FULL))
    for line in rows:
        print(f"{line['case']:<20} {line['metric']:<18} {line['value']:>10.2f}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


def measure(size: Size) -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        cells = make_study(size)
        case = f"{len(cells)}x{len(METRICS)}"
        yield from _timed(f"aggregate-{case}", lambda: collect(open_study(STUDY)))
        yield from _timed(f"report-{case}", _report)
        yield _line(f"report-{case}", "megabytes", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        yield from _rescoring(size.rescored)
    yield from _jackknife()


def _report() -> None:
    reporting.write_tables(STUDY)
    reporting.write_figures(STUDY)
    reporting.write_report(STUDY)


def _rescoring(cells: int) -> Iterator[dict[str, Any]]:
    folder = Path("one") / "encoder" / "loss" / "base" / "seed0"
    folder.mkdir(parents=True)
    val, test = (make_scores(seed) for seed in (0, 1))
    ids = {split: np.arange(len(scored[0])) for split, scored in (("val", val), ("test", test))}
    scores = {"linear": {"val": val[1], "test": test[1]}}
    write_scores(folder / SCORES, scores, {"val": val[0], "test": test[0]}, ids)
    metrics_of(folder, folder / "card.json")
    begun = time.perf_counter()
    for _ in range(cells):
        metrics_of(folder, folder / "card.json")
    yield _line(f"rescore-{ROWS}x{LABELS}", "cells_per_second", cells / (time.perf_counter() - begun))


def _jackknife() -> Iterator[dict[str, Any]]:
    labels, scores = make_scores(0)
    scored = examples.Scored(labels.astype(np.bool_), scores)
    for metric in ("macro_f1", "map"):
        case = f"jackknife-{metric}-{ROWS}x{LABELS}"
        yield from _timed(case, partial(examples.without_groups, scored, metric))


def make_scores(seed: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    rng = np.random.default_rng(seed)
    labels = (rng.random((ROWS, LABELS)) < 0.045).astype(np.uint8)
    return labels, np.clip(rng.normal(0.2 + 0.3 * labels, 0.2), 0, 1).astype(np.float32)


def make_study(size: Size) -> list[CellId]:
    """An outline, a card for each dataset, and a record for each cell; no scores, as after a merge of CSV files."""
    variants: dict[str, Any] = {"base": {}}
    variants |= {
        f"fraction_{f}": {"dataset": {"fraction": f}} for f in (0.1, 0.2, 0.4, 0.7)[: size.variants - 1]
    }
    study = SyntheticStudy(
        STUDY,
        [f"dataset{i}" for i in range(size.datasets)],
        [f"loss{i}" for i in range(size.losses)],
        size.seeds,
        METRICS[:3],
        variants,
    )
    study.write()
    for i, dataset in enumerate(study.datasets):
        write_card(study, dataset, 10 + 20 * i)
    rng = np.random.default_rng(0)
    for cell in study.cells():
        write_record(study.paths.record(cell), _record(cell, rng))
    return study.cells()


def _record(cell: CellId, rng: np.random.Generator) -> Record:
    level = 0.4 + 0.02 * int(cell.loss.removeprefix("loss")) + 0.01 * rng.normal()
    values = {
        "linear": {
            split: {metric: level + 0.01 * rng.normal() for metric in METRICS} for split in ("val", "test")
        }
    }
    result = {"status": "ok", "reason": None, "fingerprint": str(cell), "metrics": values}
    run = {"attempt": 1, "wall_seconds": 60 + 5 * rng.random(), "cpu_seconds": 55.0, "peak_memory_mb": 700.0}
    return Record(result, run)


def _timed(case: str, work: Callable[[], Any]) -> Iterator[dict[str, Any]]:
    begun, begun_cpu = time.perf_counter(), time.process_time()
    work()
    yield _line(case, "seconds", time.perf_counter() - begun)
    yield _line(case, "cpu_seconds", time.process_time() - begun_cpu)


def _line(case: str, metric: str, value: float) -> dict[str, Any]:
    return {"case": case, "metric": metric, "value": round(value, 3)}


if __name__ == "__main__":
    main()
