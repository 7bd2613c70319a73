"""The state of a cell, and all that counts it."""

from __future__ import annotations

from mlcl.records.coverage import coverage
from mlcl.records.outline import open_study
from tests.synthetic import spoiled


def test_coverage_shows_each_row_and_counts_what_is_not_well(grid):
    found = coverage(spoiled(grid).opened)
    text = found.render()
    first = text.splitlines()[0]
    assert first == "study tiny: 41 of 45 cells have a current record, 1 failed, 1 stale, 3 missing"
    assert found.text("reg", "base", "scenes", "cnn") == "2/3 d"
    assert found.text("reg", "base", "docs", "transformer") == "0/3 ..."
    assert found.text("bce", "base", "docs", "transformer") == "2/3 o"
    assert found.text("jaccard", "fraction_0.1", "docs", "transformer") == "skip"
    assert found.text("label_prior", "base", "scenes", "none") == "3/3"


def test_coverage_needs_no_aggregation_and_no_record(grid):
    grid.plan()
    assert "0 of 30 cells have a current record, 30 missing" in coverage(open_study("tiny")).render()


def test_a_wide_study_is_shown_in_blocks_that_fit_a_line(grid):
    grid.datasets = {f"a_dataset_with_a_long_name_{k}": "image" for k in range(10)}
    grid.encoders = {f"encoder_{k}": "image" for k in range(6)}
    shown = coverage(grid.plan().opened).render()
    lines = shown.splitlines()
    assert max(map(len, lines)) <= 120
    for title in (f"{dataset}/{encoder}" for dataset in grid.datasets for encoder in grid.encoders):
        assert sum(title in line.split() for line in lines) == 1, title
    assert sum(line.startswith("bce ") for line in lines) > 1
