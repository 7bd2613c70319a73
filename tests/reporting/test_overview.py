"""The answer in a paragraph, and each loss against the best one."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from mlcl.evaluation.metrics import evaluate
from mlcl.records.collect import collect
from mlcl.records.outline import open_study
from mlcl.records.paths import CellId
from mlcl.records.rescore import rescore
from mlcl.reporting import bootstrap
from mlcl.reporting.figures import ranks
from mlcl.reporting.overview import overview
from mlcl.reporting.ranking import compare_losses, complete_means, note_on_encoders, primary_metric
from mlcl.reporting.results import load_results
from mlcl.reporting.statistics import examples
from mlcl.reporting.tables.best_against_each import best_against_each_table
from mlcl.reporting.tables.differences import differences_table
from mlcl.reporting.tables.table import Number, Text

COMPLETE = {"scenes": ["cnn", "net"], "docs": ["cnn"], "more": ["cnn", "net"]}
"""dataset -> its encoders on which no run lacks, of `two_encoders`."""


def loaded(grid):
    grid.plan().make_all()
    collect(open_study("tiny"), partial=True)
    return load_results("tiny")


@pytest.fixture
def three_datasets(grid):
    grid.datasets = {"scenes": "image", "docs": "image", "more": "image"}
    grid.encoders = {"cnn": "image"}
    return loaded(grid)


def test_with_few_datasets_each_gets_its_sentence(grid):
    text = overview(loaded(grid))
    assert "On Scenes, use bce: its macro-F1 is 85.2" in text
    assert "On Docs, use bce" in text
    assert "than that of reg, the next" in text


def test_with_several_datasets_ranks_and_tests_speak(three_datasets):
    text = overview(three_datasets)
    assert text.startswith(
        "Judged by macro-F1 over 3 datasets, use bce: it has the best mean rank (1.0 of 3), then reg (2.0)."
    )
    found = compare_losses(three_datasets, "macro_f1")
    assert f"p = {found.p_value:.2g}" in text
    assert "With at most 20 labels (3 datasets), bce is best on average (" in text


def test_without_complete_rows_it_says_that_there_is_nothing_to_compare(grid):
    grid.plan()
    collect(open_study("tiny"), partial=True)
    assert "nothing to compare yet" in overview(load_results("tiny"))


def test_a_cheaper_loss_that_is_close_is_named(three_datasets):
    flat = three_datasets.metrics.assign(value=0.5)
    object.__setattr__(three_datasets, "metrics", flat)
    three_datasets.__dict__.pop("_values", None)
    costs = three_datasets.costs
    costs.loc[(costs["loss"] == "reg") & (costs["cost"] == "wall_seconds"), "value"] = 1.0
    assert "Where time matters, reg is within a point of" in overview(three_datasets)


def test_the_primary_metric_is_macro_f1_where_the_table_shows_it(grid):
    grid.metrics = ["micro_f1", "map"]
    assert primary_metric(loaded(grid)) == "map"


def test_incomplete_rows_have_no_mean(grid):
    grid.plan().make_all()
    grid.fail(CellId("scenes", "cnn", "reg", "base", 1), "oom", "too large")
    collect(open_study("tiny"))
    means = complete_means(load_results("tiny"), "map")
    assert ("scenes", "cnn") not in means["reg"]
    assert ("docs", "transformer") in means["reg"]


def test_differences_to_the_best_are_of_means_with_intervals_from_the_same_resamples(grid, monkeypatch):
    monkeypatch.setattr(examples, "RESAMPLES", 300)
    results = loaded(grid)
    found = bootstrap.against_best(results)["scenes", "cnn"]
    assert found.best == "bce"

    def f1(loss):
        cells = [
            grid.paths.cell(CellId("scenes", "cnn", loss, "base", seed)) / "scores.npz" for seed in range(3)
        ]
        stored = [np.load(file) for file in cells]
        return np.mean(
            [evaluate(one["test_labels"], one["linear_test_scores"])["macro_f1"] for one in stored]
        )

    gap = found.differences["jaccard"]
    assert gap.value == pytest.approx(f1("jaccard") - f1("bce"))
    assert gap.low < gap.value < gap.high < 0
    table = differences_table(results)
    cells = {row.key[0]: row.cells[0] for row in table.rows}
    assert cells["bce"] == Text("best")
    assert isinstance(cells["jaccard"], Number)
    assert cells["jaccard"].interval == (gap.low, gap.high)


def test_a_table_of_validation_has_intervals_of_validation(grid):
    grid.datasets, grid.seeds = {"scenes": "image"}, [0]
    column = "scenes", "cnn"
    results = loaded(grid)
    of_test = bootstrap.against_best(results)[column].differences["jaccard"]
    assert "over test examples (" in differences_table(results).caption
    for cell in grid.cells():  # test stays as it is, and on validation jaccard is on a par
        if cell.loss == "jaccard":
            folder = grid.paths.cell(cell)
            of_bce = np.load(grid.paths.cell(replace(cell, loss="bce")) / "scores.npz")["linear_val_scores"]
            stored = dict(np.load(folder / "scores.npz"))
            np.savez(folder / "scores.npz", **(stored | {"linear_val_scores": of_bce}))
            rescore(folder, "new")
    grid.split = "val"
    grid.plan()
    collect(open_study("tiny"))
    results = load_results("tiny")
    gap = bootstrap.against_best(results)[column].differences["jaccard"]
    assert of_test.high < 0
    assert (gap.low, gap.value, gap.high) == (0, 0, 0)
    assert "over validation examples (" in differences_table(results).caption
    grid.split = "test"
    grid.plan()
    collect(open_study("tiny"))
    assert bootstrap.against_best(load_results("tiny"))[column].differences["jaccard"] == of_test


def test_a_bootstrap_is_computed_again_only_if_scores_changed(grid, monkeypatch):
    results = loaded(grid)
    made = []

    def count(metric, split, readout, means, files, best):
        made.append(next(iter(files.values()))[0].parts[2])
        return {loss: [0.0, 1.0] for loss in means if loss != best}

    monkeypatch.setattr(bootstrap, "_bootstrap", count)
    bootstrap.against_best(results)
    assert made == ["scenes", "docs"]
    bootstrap.against_best(results)
    assert made == ["scenes", "docs"]
    cell = CellId("docs", "transformer", "reg", "base", 0)
    file = grid.paths.cell(cell) / "scores.npz"
    stored = dict(np.load(file))
    np.savez(file, **(stored | {"linear_test_scores": stored["linear_test_scores"] * np.float32(0.99)}))
    bootstrap.against_best(results)
    assert made == ["scenes", "docs", "docs"]
    assert len(json.loads((grid.paths.results / bootstrap.KEPT).read_text())) == 2


def test_without_scores_there_is_no_table_of_differences(grid):
    results = loaded(grid)
    for cell in grid.cells():
        (grid.paths.cell(cell) / "scores.npz").unlink()
    assert differences_table(results) is None


def test_pairs_against_the_best_by_rank(three_datasets):
    table = best_against_each_table(three_datasets)
    rows = {row.key[0]: row.cells for row in table.rows}
    assert [row.key[0] for row in table.rows] == ["bce", "reg", "jaccard"]
    found = compare_losses(three_datasets, "macro_f1")
    rank, gap, p, chance, delta = rows["jaccard"]
    assert rank.value == found.ranks["jaccard"] == 3
    means = complete_means(three_datasets, "macro_f1")
    assert gap.value == pytest.approx(np.mean([means["jaccard"][c] - means["bce"][c] for c in means["bce"]]))
    assert p.value == found.wilcoxon["bce", "jaccard"]
    assert chance.value == 0
    assert delta.value == -1


def test_two_datasets_are_too_few_for_pairs(grid):
    assert best_against_each_table(loaded(grid)) is None


@pytest.fixture
def two_encoders(grid):
    """Three datasets with two encoders: bce is best but with `net` on two datasets, of which one lacks a run there."""
    grid.datasets = {"scenes": "image", "docs": "image", "more": "image"}
    grid.encoders = {"cnn": "image", "net": "image"}
    grid.plan().make_all()
    grid.fail(CellId("docs", "net", "reg", "base", 1), "oom", "too large")
    collect(open_study("tiny"))
    results = load_results("tiny")
    values = results.metrics
    turned = (values["encoder"] == "net") & values["dataset"].isin(["scenes", "docs"])
    for loss, value in (("bce", 0.0), ("jaccard", 1.0)):
        values.loc[turned & (values["loss"] == loss), "value"] = value
    return results


def test_encoders_of_one_dataset_are_not_datasets(grid):
    grid.datasets, grid.encoders = {"scenes": "image"}, {"cnn": "image", "net": "image", "vit": "image"}
    results = loaded(grid)
    assert compare_losses(results, "macro_f1").datasets == ("scenes",)
    assert best_against_each_table(results) is None
    assert not list(ranks.draw(results))
    text = overview(results)
    assert "On Scenes, net, use bce" in text
    assert "datasets" not in text


def test_a_dataset_counts_with_the_mean_over_its_complete_encoders(two_encoders):
    found = compare_losses(two_encoders, "macro_f1")
    assert found.datasets == ("scenes", "docs", "more")
    assert found.ranks == pytest.approx({"bce": 5 / 3, "reg": 2, "jaccard": 7 / 3})
    means = complete_means(two_encoders, "macro_f1")
    gaps = {column: means["jaccard"][column] - means["bce"][column] for column in means["bce"]}
    of_datasets = [np.mean([gaps[d, e] for e in encoders]) for d, encoders in COMPLETE.items()]
    table = best_against_each_table(two_encoders)
    cells = {row.key[0]: row.cells for row in table.rows}["jaccard"]
    assert cells[1].value == pytest.approx(np.mean(of_datasets))
    assert cells[4].value == pytest.approx(np.mean([(-1 + 1) / 2, -1, -1]))
    note = "A dataset with several encoders counts once"
    assert all(note in figure.caption for figure in ranks.draw(two_encoders))
    assert note in table.caption
    text = overview(two_encoders)
    assert note in text
    assert "With at most 20 labels (3 datasets)" in text


def test_the_chance_to_win_is_over_the_datasets_of_the_rest_of_the_row(two_encoders):
    cells = {row.key[0]: row.cells for row in best_against_each_table(two_encoders).rows}["jaccard"]
    assert cells[3].value == pytest.approx(np.mean([(0 + 1) / 2, 0, 0]))


def test_one_encoder_needs_no_note(three_datasets):
    assert note_on_encoders(three_datasets.outline) == ""


def test_one_seed_is_called_one_seed(grid):
    grid.seeds = [0]
    assert "the next (one seed each, so seed noise is unknown)" in overview(loaded(grid))
    grid.datasets = {"scenes": "image", "docs": "image", "more": "image"}
    grid.encoders = {"cnn": "image"}
    assert "Each cell ran with one seed: how much seeds differ is not known." in overview(loaded(grid))
