"""Records -> CSV files."""

from __future__ import annotations

import csv

import pytest

from mlcl.errors import MlclError
from mlcl.records.collect import collect
from mlcl.records.outline import open_study
from mlcl.records.paths import CellId
from mlcl.records.record import read_record
from tests.synthetic import spoiled

CELL = CellId("scenes", "cnn", "bce", "base", 1)


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_metrics_csv_holds_every_metric_of_every_record_with_full_precision(grid):
    grid.plan().make_all()
    collect(open_study("tiny"))
    rows = read(grid.paths.metrics_csv)
    assert list(rows[0]) == [
        "dataset",
        "encoder",
        "loss",
        "variant",
        "seed",
        "readout",
        "split",
        "metric",
        "value",
    ]
    found = {}
    for row in rows:
        cell = CellId(row["dataset"], row["encoder"], row["loss"], row["variant"], int(row["seed"]))
        of_readout = found.setdefault(cell, {}).setdefault(row["readout"], {})
        of_readout.setdefault(row["split"], {})[row["metric"]] = float(row["value"])
    assert set(found) == set(grid.cells())
    for cell, metrics in found.items():
        assert metrics == read_record(grid.paths.record(cell)).metrics


def test_costs_come_from_run_blocks_and_only_there_parts_of_a_step_by_name(grid):
    grid.plan().make_all()
    collect(open_study("tiny"))
    costs = {
        r["cost"]: float(r["value"])
        for r in read(grid.paths.costs_csv)
        if r["loss"] == "bce" and r["seed"] == "0"
    }
    assert costs == {
        "wall_seconds": 13.0, "cpu_seconds": 9.5, "peak_memory_mb": 536.0, "examples_per_second": 800.0,
        "flops_per_second": 2e10, "device_flops_per_second": 5e10, "step_seconds_data": 0.001,
        "step_seconds_forward": 0.004, "step_seconds_loss": 0.003, "step_seconds_backward": 0.008,
    }  # fmt: skip
    assert "wall_seconds" not in grid.paths.metrics_csv.read_text()


def test_an_absent_record_is_an_error_that_counts_and_names(grid):
    grid.plan().make_all()
    grid.paths.record(CELL).unlink()
    with pytest.raises(
        MlclError, match=f"1 of {len(grid.cells())} cells have no current record.*{CELL}: missing"
    ):
        collect(open_study("tiny"))
    assert not grid.paths.metrics_csv.exists()


def test_partial_marks_missing_failed_stale_and_skipped_cells(grid):
    collect(spoiled(grid).opened, partial=True)
    states = {}
    for row in read(grid.paths.cells_csv):
        name = "/".join([*(row[c] for c in ("dataset", "encoder", "loss", "variant")), f"seed{row['seed']}"])
        states[name] = (row["state"], row["reason"])
    assert states["scenes/cnn/bce/base/seed0"] == ("ok", "")
    assert states["scenes/cnn/reg/base/seed1"][0] == "diverged"
    assert states["docs/transformer/bce/base/seed2"][0] == "stale"
    assert states["docs/transformer/reg/base/seed0"][0] == "missing"
    assert states["docs/transformer/jaccard/fraction_0.1/seed2"] == ("skipped", "jaccard has no fraction")


def test_without_a_fingerprint_to_compare_with_nothing_is_called_stale(grid):
    grid.fingerprints = {str(CELL): None}
    grid.plan().make_all()
    collect(open_study("tiny"))
    assert {row["state"] for row in read(grid.paths.cells_csv)} == {"ok"}


def test_a_stale_record_gives_no_metrics_and_no_costs(grid):
    grid.plan().make_all()
    grid.make(CELL, fingerprint="of-old")
    with pytest.raises(
        MlclError, match=f"1 of {len(grid.cells())} cells have no current record.*{CELL}: stale"
    ):
        collect(open_study("tiny"))
    collect(open_study("tiny"), partial=True)
    for file in (grid.paths.metrics_csv, grid.paths.costs_csv):
        seeds = {row["seed"] for row in read(file) if (row["dataset"], row["loss"]) == ("scenes", "bce")}
        assert seeds == {"0", "2"}


def test_records_that_the_study_does_not_ask_for_play_no_part(grid):
    grid.plan().make_all()
    grid.losses = ["bce"]
    grid.plan()
    collect(open_study("tiny"))
    assert {row["loss"] for row in read(grid.paths.metrics_csv)} == {"bce", "label_prior", "random_encoder"}


def test_a_damaged_record_gives_no_number_and_is_named(grid):
    grid.plan().make_all()
    file = grid.paths.record(CELL)
    file.write_text(file.read_text().replace('"map": 0.', '"map": 0.1', 1))
    with pytest.raises(MlclError, match=f"1 of 30 cells.*{file}: is not what was written"):
        collect(open_study("tiny"))
    collect(open_study("tiny"), partial=True)
    cells = grid.paths.cells_csv.read_text().splitlines()
    assert [line for line in cells if str(file) in line and ",missing," in line]


def test_no_record_at_all_gives_empty_files(grid):
    grid.plan()
    collect(open_study("tiny"), partial=True)
    assert read(grid.paths.metrics_csv) == []
    assert {row["state"] for row in read(grid.paths.cells_csv)} == {"missing"}


def test_an_unplanned_study_is_an_error_that_says_what_to_do(grid):
    with pytest.raises(MlclError, match=r"outline\.json: is not there; plan the study first"):
        collect(open_study("tiny"))
