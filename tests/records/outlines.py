"""An outline of a study with next to nothing in it, for tests that need one part of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mlcl.records.outline import Outline

EMPTY = Outline(
    study="tiny",
    file="config/tiny.yaml",
    title="Tiny",
    description="",
    seeds=[0],
    metrics=["map"],
    split="test",
    datasets={},
    encoders={},
    losses={},
    baselines=[],
    variants={"base": {}},
    training={},
    readouts=["head", "linear"],
    readout="linear",
    linear_evaluation={},
    compute={},
    cells=[],
    skipped=[],
    search=None,
    trials=[],
    metrics_source="metrics-1",
    reporting_source="reporting-1",
)


def outline(**changes: Any) -> Outline:
    return replace(EMPTY, **changes)
