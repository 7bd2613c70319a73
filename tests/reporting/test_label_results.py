"""Single labels in tables and figures: which losses, which labels, which pairs."""

from __future__ import annotations

import numpy as np
import pytest

from mlcl.digests import sealed
from mlcl.records.collect import collect
from mlcl.records.files import write_json
from mlcl.records.paths import CellId
from mlcl.reporting.contrasts import Contrasts
from mlcl.reporting.figures import label_confusions, label_scores, style
from mlcl.reporting.label_results import (
    best_losses,
    evenly_spaced,
    label_confusion,
)
from mlcl.reporting.label_results import label_scores as scores_of
from mlcl.reporting.ranking import primary_metric
from mlcl.reporting.results import load_results
from mlcl.reporting.standings import standings
from mlcl.reporting.tables.label_confusions import label_confusions_table
from mlcl.reporting.tables.label_scores import label_scores_table
from mlcl.reporting.tables.text import markdown
from tests.synthetic import read_json


@pytest.fixture
def results(grid):
    grid.plan().make_all()
    collect(grid.opened)
    return load_results("tiny")


def test_the_best_losses_are_those_of_the_overview(results):
    for standing in standings(results, primary_metric(results), Contrasts(results)):
        if standing.column is not None:
            assert best_losses(results, standing.column[0]) == (standing.column, standing.order)


def test_a_loss_with_a_seed_missing_is_not_among_them(grid):
    grid.plan().make_all()
    best = best_losses_after(grid, lambda: None)[0]
    cell = CellId("scenes", "cnn", best, "base", 0)
    assert best not in best_losses_after(grid, lambda: grid.fail(cell, "oom", "too large"))


def best_losses_after(grid, change):
    change()
    collect(grid.opened)
    found = best_losses(load_results("tiny"), "scenes")
    assert found is not None
    return found[1]


def test_labels_are_sorted_by_training_frequency_and_a_choice_has_the_ends(results):
    scores = scores_of(results, "docs", most=5)
    counts = sorted(results.training_counts("docs"), reverse=True)
    assert scores.train == [counts[i] for i in (0, 3, 6, 8, 11)]
    assert scores.number_of_labels == 12
    assert evenly_spaced(3, 5).tolist() == [0, 1, 2]
    assert evenly_spaced(1, 5).tolist() == [0]


def test_a_number_of_the_table_is_the_mean_over_the_seeds(results):
    table = label_scores_table(results, "scenes")
    lines = results.labels
    label = table.rows[2].key[0]
    for column, cell in zip(table.columns, table.rows[2].cells, strict=True):
        measure, loss = column.key
        chosen = (lines["label"] == label) & (lines["loss"] == loss) & (lines["readout"] == "linear")
        assert cell.value == pytest.approx(lines.loc[chosen, measure].mean())
        assert cell.spread == pytest.approx(lines.loc[chosen, measure].std())


def test_thresholds_of_half_and_tuned_ones_stand_side_by_side(results):
    measures = [column.key[0] for column in label_scores_table(results, "scenes").columns]
    assert {"f1", "f1_tuned", "precision", "precision_tuned", "recall", "recall_tuned"} < set(measures)


def test_a_row_of_the_matrix_sums_to_one_and_pairs_come_in_order(results):
    confusion = label_confusion(results, "docs")
    np.testing.assert_allclose(confusion.shares.sum(axis=1), 1, atol=1e-3)
    rows = [confusion.shares[i, j] * confusion.positives[i] for i, j in confusion.most_confused()]
    assert rows == sorted(rows, reverse=True)
    assert all(i != j for i, j in confusion.most_confused())
    assert (confusion.encoder, confusion.loss) == ("transformer", best_losses(results, "docs")[1][0])


def test_strange_names_of_labels_are_shown_in_every_form(grid):
    names = ["cost in $x^2$", "snow_and_ice", "a|b", "中文", "<b>", "nan"]
    grid.datasets = {"scenes": "image"}
    grid.plan().make_all()
    card = read_json(grid.paths.card("scenes"))
    for split in card["splits"].values():
        split["label_counts"] = dict(zip(names, split["label_counts"].values(), strict=True))
    content = {key: value for key, value in card.items() if key != "seal"} | {"labels": names}
    write_json(grid.paths.card("scenes"), sealed(content))
    collect(grid.opened)
    results = load_results("tiny")
    assert scores_of(results, "scenes").labels == names
    assert r"| a\|b |" in markdown(label_scores_table(results, "scenes"))
    (figure,), (matrix,) = label_scores.draw(results), label_confusions.draw(results)
    shown = [text.get_text() for text in figure.canvas.axes[0].get_yticklabels()]
    assert [text.partition(" (")[0] for text in shown] == [style.shorten(name) for name in names]
    assert [text.get_text() for text in matrix.canvas.axes[0].get_yticklabels()] == [
        style.shorten(name) for name in names
    ]


def test_characters_that_no_font_has_are_shown_by_their_numbers():
    assert style.drawable("a_b $c$ é") == "a_b $c$ é"
    assert style.drawable("\U000e0041") == "[U+E0041]"


def test_no_result_gives_no_table_and_no_figure(grid):
    grid.plan()
    collect(grid.opened, partial=True)
    results = load_results("tiny")
    assert label_scores_table(results, "scenes") is None
    assert label_confusions_table(results, "scenes") is None
    assert [*label_scores.draw(results), *label_confusions.draw(results)] == []


def test_more_losses_than_three_are_not_drawn(grid):
    grid.losses = ["bce", "jaccard", "reg", "mulsupcon"]
    grid.datasets = {"scenes": "image"}
    grid.plan().make_all()
    collect(grid.opened)
    results = load_results("tiny")
    assert scores_of(results, "scenes").losses == best_losses(results, "scenes")[1][:3]
