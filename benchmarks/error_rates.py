"""How often the report's statements are wrong: type-I error, coverage and power on simulated studies.

    python benchmarks/error_rates.py            150 to 600 studies of each kind (a quarter of an hour of one core)
    python benchmarks/error_rates.py --quick    a few studies of each kind (under a minute)

A simulated study has records and stored scores like a real one; they are collected and read by the same code as the
report's, and the statements are those of its claims, tables and overview. The score of loss l, seed s, example i and
label k is the logistic function of

    (skill[l] + seed[l, s]) (2 y[i, k] - 1) + shared[i, k] + own[l, i, k] + noise[l, s, i, k] - 0.4

with normal terms: how well a run went, how hard an example is, what it is to this loss, and what it is to this run. So
both training anew and other examples matter. In a *null* study all losses have the same skill, so every difference
that is stated is an error. In an *effect* study the first loss has more; the true difference is the mean over all
simulated studies, which is what an interval should contain.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

from benchmarks.synthetic_study import SyntheticStudy, write_card
from mlcl.records.collect import collect
from mlcl.records.outline import open_study
from mlcl.records.record import SCORES, Record, write_record
from mlcl.reporting.claims import judge, judge_all
from mlcl.reporting.contrasts import Contrasts
from mlcl.reporting.overview import overview
from mlcl.reporting.ranking import rank_losses
from mlcl.reporting.results import Results, load_results
from mlcl.reporting.specs import Claim
from mlcl.reporting.standings import standings
from mlcl.reporting.statistics import ALPHA, FEWEST_DATASETS
from mlcl.reporting.statistics.examples import Scored, prepare

METRICS = ("macro_f1", "micro_f1", "map")
LOSSES = ("first", "second", "third")
PRIMARY = "macro_f1"
NAMED = ("is better than", "ranks above")
"""What the overview says where it tells losses apart."""


def claim(better: str, worse: str, metric: str) -> Claim:
    return Claim(id="simulated", statement="", source="", metric=metric, better=better, worse=worse)


CLAIMS = [
    claim("first", "second", "macro_f1"),
    claim("first", "third", "map"),
    claim("second", "third", "micro_f1"),
    claim("third", "first", "macro_f1"),
]
"""As different as those of the papers; the first is the one whose coverage and power are told."""


@dataclass(frozen=True)
class Kind:
    """A kind of study, and how many of it are simulated."""

    name: str
    studies: int
    seeds: int
    datasets: int = 2
    losses: int = 3
    rows: int = 200
    frequencies: tuple[float, ...] = (0.4, 0.3, 0.25, 0.2, 0.15, 0.1)
    effect: float = 0.0
    """Added to the skill of the first loss."""


RARE = tuple(float(f) for f in np.geomspace(0.3, 0.004, 30))
SKILL, SEED_SPREAD, SHARED, OWN, NOISE = 1.0, 0.08, 0.7, 0.5, 0.5
KINDS = [
    Kind("null, 1 seed", 100, 1),
    *(Kind(f"null, {seeds} seeds", 600, seeds) for seeds in (3, 5, 10)),
    *(Kind(f"effect, {seeds} seeds", 300, seeds, effect=0.08) for seeds in (3, 5, 10)),
    Kind("null, 8 datasets, 3 seeds", 300, 3, datasets=8),
    Kind("effect, 8 datasets, 3 seeds", 150, 3, datasets=8, effect=0.08),
    Kind("rare labels, 3 seeds", 600, 3, datasets=1, losses=2, rows=400, frequencies=RARE, effect=0.05),
]
QUICK = 12
"""Studies of a kind; of those with few seeds and datasets."""


@dataclass(frozen=True)
class Outcome:
    """What the report states of one simulated study."""

    claim: bool
    any_claim: bool
    table: bool
    ranks: bool | None
    overview: bool
    value: float
    low: float
    high: float
    gaps: tuple[tuple[str, str, float, float, float], ...]
    """Of the table of differences: loss, best loss, value, low, high; on one column."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument(
        "--json", type=Path, help="where to write the figures: {case, metric, value, studies}"
    )
    options = parser.parse_args()
    rows = list(measure(quick_kinds() if options.quick else KINDS))
    for line in rows:
        print(f"{line['case']:<30} {line['metric']:<34} {line['value']:>9.4f}  of {line['studies']}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


def quick_kinds() -> list[Kind]:
    small = [kind for kind in KINDS if kind.seeds <= 3 and kind.datasets <= 2]
    return [replace(kind, studies=QUICK) for kind in small]


def measure(kinds: list[Kind], seed: int = 0) -> Iterator[dict[str, Any]]:
    """One line a figure: {case, metric, value, studies}."""
    for kind in kinds:
        rng = np.random.default_rng([seed, kind.seeds, kind.datasets, int(1000 * kind.effect)])
        with tempfile.TemporaryDirectory() as folder, chdir(folder):
            study = SyntheticStudy(
                "simulated",
                [f"d{i}" for i in range(kind.datasets)],
                LOSSES[: kind.losses],
                kind.seeds,
                METRICS,
            )
            study.write()
            outcomes = [_state(_simulate(kind, study, rng)) for _ in range(kind.studies)]
        yield from _figures(kind, outcomes)


def _simulate(kind: Kind, study: SyntheticStudy, rng: np.random.Generator) -> Results:
    """Writes records and scores of a study, collects them, and reads them as the report does."""
    shape = (kind.rows, len(kind.frequencies))
    for dataset in study.datasets:
        labels = rng.random(shape) < kind.frequencies
        write_card(study, dataset, shape[1])
        shared = SHARED * rng.normal(size=shape)
        for i, loss in enumerate(study.losses):
            own = shared + OWN * rng.normal(size=shape)
            for seed in range(kind.seeds):
                skill = SKILL + kind.effect * (i == 0) + SEED_SPREAD * rng.normal()
                logits = skill * (2.0 * labels - 1) + own + NOISE * rng.normal(size=shape) - 0.4
                scores = (1 / (1 + np.exp(-logits))).astype(np.float32)
                _write_cell(study, (dataset, loss, seed), labels, scores)
    study.paths.jackknife.unlink(missing_ok=True)
    collect(open_study(study.name))
    return load_results(study.name)


def _write_cell(
    study: SyntheticStudy, place: tuple[str, str, int], labels: np.ndarray, scores: np.ndarray
) -> None:
    dataset, loss, seed = place
    cell = next(c for c in study.cells() if (c.dataset, c.loss, c.seed) == (dataset, loss, seed))
    folder = study.paths.cell(cell)
    folder.mkdir(parents=True, exist_ok=True)
    y = labels.astype(np.uint8)
    np.savez(
        folder / SCORES,
        scores_kind="probability", readouts=["linear"], val_labels=y[:2], linear_val_scores=scores[:2], test_labels=y,
        linear_test_scores=scores,
    )  # fmt: skip
    every = np.ones((1, len(labels)), dtype=np.float32)
    values = {metric: float(prepare(Scored(labels, scores), metric)(every)[0]) for metric in METRICS}
    result = {
        "status": "ok",
        "reason": None,
        "fingerprint": str(cell),
        "metrics": {"linear": {"test": values}},
    }
    write_record(study.paths.record(cell), Record(result, {"attempt": 1, "cpu_seconds": 60.0}))


def _state(results: Results) -> Outcome:
    contrasts = Contrasts(results)
    claims = [c for c in CLAIMS if {c.better, c.worse} <= set(results.outline.losses)]
    verdicts = judge_all(results, contrasts, claims)
    single = judge(claims[0], results, contrasts)
    found = standings(results, PRIMARY, contrasts)
    ranking = rank_losses(results, PRIMARY)
    tested = ranking is not None and len(ranking.datasets) >= FEWEST_DATASETS and ranking.p_value is not None
    column = next(s for s in found if s.column is not None)
    text = " ".join(overview(results, contrasts))
    assert single.estimate is not None
    return Outcome(
        claim=_decided(single.answer),
        any_claim=any(_decided(verdict.answer) for verdict in verdicts),
        table=any(standing.apart for standing in found),
        ranks=bool(ranking.p_value < ALPHA) if tested and ranking and ranking.p_value is not None else None,
        overview=any(words in text for words in NAMED),
        value=single.estimate.value,
        low=single.estimate.low,
        high=single.estimate.high,
        gaps=tuple(
            (loss, column.best, interval.value, interval.low, interval.high)
            for loss, interval in column.intervals.items()
        ),
    )


def _decided(answer: str) -> bool:
    return answer in ("holds", "does not hold")


def _figures(kind: Kind, outcomes: list[Outcome]) -> Iterator[dict[str, Any]]:
    def line(metric: str, value: float) -> dict[str, Any]:
        return {"case": kind.name, "metric": metric, "value": round(value, 4), "studies": len(outcomes)}

    word = "power" if kind.effect else "type-I error"
    yield line(f"{word}: one claim", _share([o.claim for o in outcomes]))
    if kind.losses > 2:
        yield line(f"{word}: any claim of the study", _share([o.any_claim for o in outcomes]))
        yield line(f"{word}: table of differences", _share([o.table for o in outcomes]))
        yield line(f"{word}: overview", _share([o.overview for o in outcomes]))
    if ranked := [o.ranks for o in outcomes if o.ranks is not None]:
        yield line(f"{word}: ranks", _share(ranked))
    if kind.seeds == 1:
        return
    truth = float(np.mean([o.value for o in outcomes])) if kind.effect else 0.0
    yield line("true difference of the claim in points", 100 * truth)
    yield line("coverage: interval of a claim", _share([o.low <= truth <= o.high for o in outcomes]))
    if not kind.effect:
        everywhere = [all(low <= 0 <= high for *_, low, high in o.gaps) for o in outcomes]
        yield line("coverage: all intervals of a column", _share(everywhere))


def _share(values: list[bool]) -> float:
    return sum(values) / len(values)


def standard_error(share: float, studies: int) -> float:
    """Of a share of so many studies."""
    return math.sqrt(share * (1 - share) / studies)


if __name__ == "__main__":
    main()
