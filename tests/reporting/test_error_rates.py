"""The simulation of docs/statistics.md in small: what is stated of studies in which nothing or something is true."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks import error_rates

STUDIES = 24


@pytest.fixture(scope="module")
def figures():
    """(kind, figure) -> value"""
    kinds = {kind.name: kind for kind in error_rates.quick_kinds()}
    chosen = [
        replace(kinds["null, 1 seed"], studies=4),
        replace(kinds["null, 3 seeds"], studies=STUDIES),
        replace(kinds["effect, 3 seeds"], studies=8, effect=0.4),
    ]
    return {(line["case"], line["metric"]): line["value"] for line in error_rates.measure(chosen)}


def test_one_seed_states_nothing(figures):
    stated = [
        value for (case, metric), value in figures.items() if case == "null, 1 seed" and "type-I" in metric
    ]
    assert stated == [0, 0, 0, 0]


def test_where_all_losses_are_equal_little_is_stated(figures):
    for statement in ("one claim", "any claim of the study", "table of differences", "overview"):
        # With a rate of 5 %, more than 5 of 24 happen once in 2,000 times.
        assert figures["null, 3 seeds", f"type-I error: {statement}"] <= 5 / STUDIES
    assert figures["null, 3 seeds", "coverage: interval of a claim"] >= 1 - 5 / STUDIES


def test_a_large_difference_is_found(figures):
    for statement in ("one claim", "any claim of the study", "table of differences", "overview"):
        assert figures["effect, 3 seeds", f"power: {statement}"] >= 7 / 8
    assert figures["effect, 3 seeds", "true difference of the claim in points"] > 5
