"""labels.csv and confusions.json: what they hold, and that a report needs no scores beside them."""

from __future__ import annotations

import csv
import shutil
from statistics import fmean

import pytest

from mlcl.errors import MlclError
from mlcl.records import labels as labels_module
from mlcl.records.collect import collect, is_collected
from mlcl.records.labels import read_confusions
from mlcl.records.paths import CellId
from mlcl.records.record import SCORES, read_record
from mlcl.reporting.results import load_results
from tests.synthetic import LABELS


def lines(grid):
    with grid.paths.labels_csv.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_cell_and_readout_has_a_line_for_each_label_and_their_means_are_its_metrics(grid):
    grid.plan().make_all()
    collect(grid.opened)
    by_result = {}
    for line in lines(grid):
        cell = CellId(line["dataset"], line["encoder"], line["loss"], line["variant"], int(line["seed"]))
        by_result.setdefault((cell, line["readout"]), []).append(line)
    assert set(by_result) == {(cell, readout) for cell in grid.cells() for readout in grid.readouts_of(cell)}
    measures = {
        "f1": "macro_f1",
        "f1_tuned": "macro_f1_tuned",
        "average_precision": "map",
        "recall_tuned": "cr_tuned",
    }
    for (cell, readout), of_labels in by_result.items():
        assert len(of_labels) == LABELS[cell.dataset]
        metrics = read_record(grid.paths.record(cell)).metrics[readout]["test"]
        for measure, metric in measures.items():
            assert fmean(float(line[measure]) for line in of_labels) == pytest.approx(
                metrics[metric], abs=1e-6
            )


def test_failed_cells_and_cells_without_scores_are_left_out(grid):
    grid.plan().make_all()
    grid.fail(CellId("scenes", "cnn", "reg", "base", 1), "diverged", "NaN")
    collect(grid.opened)
    assert {
        line["seed"] for line in lines(grid) if line["loss"] == "reg" and line["dataset"] == "scenes"
    } == {"0", "2"}
    assert read_confusions(grid.paths.confusions)["scenes", "cnn", "reg"].seeds == 2


def test_labels_of_what_did_not_change_are_not_computed_again(grid, monkeypatch):
    grid.datasets = {"scenes": "image"}
    grid.plan().make_all()
    collect(grid.opened)
    first = grid.paths.labels_csv.read_bytes(), grid.paths.confusions.read_bytes()
    monkeypatch.setattr(labels_module, "read_all_scores", lambda file: pytest.fail(f"{file} was read"))
    collect(grid.opened)
    assert (grid.paths.labels_csv.read_bytes(), grid.paths.confusions.read_bytes()) == first


def test_the_most_confused_labels_are_kept_and_the_rest_is_told_as_others(grid, monkeypatch):
    grid.plan().make_all()
    collect(grid.opened)
    whole = read_confusions(grid.paths.confusions)["docs", "transformer", "jaccard"]
    monkeypatch.setattr(labels_module, "MOST_CONFUSED", 5)
    grid.paths.results.joinpath(labels_module.CACHE).unlink()
    collect(grid.opened)
    part = read_confusions(grid.paths.confusions)["docs", "transformer", "jaccard"]
    assert (len(whole.labels), len(part.labels)) == (LABELS["docs"], 5)
    assert sum(whole.others) == 0
    for i, row in enumerate(part.instead):
        assert sum(row) + part.others[i] + part.nothing[i] == pytest.approx(part.positives[i], abs=0.01)


def test_results_collected_before_there_were_labels_are_collected_again(grid):
    grid.plan().make_all()
    collect(grid.opened)
    assert is_collected(grid.opened)
    grid.paths.labels_csv.unlink()
    assert not is_collected(grid.opened)
    with pytest.raises(MlclError, match="collect the records"):
        load_results("tiny")


def test_a_copied_folder_without_scores_has_its_labels(grid, tmp_path):
    grid.plan().make_all()
    collect(grid.opened)
    shutil.copytree(
        grid.paths.results, tmp_path / "copy", ignore=shutil.ignore_patterns(SCORES, "metrics.json")
    )
    results = load_results(tmp_path / "copy")
    assert len(results.labels) == len(lines(grid))
    assert ("docs", "transformer", "reg") in results.confusions
