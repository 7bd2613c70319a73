"""The state of a cell, and all that counts it."""

from __future__ import annotations

import os
import time

from mlcl.records.coverage import coverage
from mlcl.records.outline import open_study
from mlcl.records.paths import StudyPaths
from mlcl.records.status import LONGEST_SILENCE, line_if_due
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


def test_where_a_study_stands_is_not_said_after_each_of_many_short_cells(grid):
    spoiled(grid)
    due = StudyPaths("tiny").line_due
    due.parent.mkdir(parents=True)
    begun = time.time()
    assert line_if_due("tiny").startswith("41 of 45 cells have a current record")
    assert due.stat().st_mtime > begun
    for ahead, is_said in ((60, False), (-1, True), (2 * LONGEST_SILENCE, True)):
        when = time.time() + ahead
        os.utime(due, (when, when))
        assert (line_if_due("tiny") is not None) == is_said, f"due in {ahead} s"
