"""The rules by which a cell does not count as trained to its end, and how they reach tables and overview."""

from __future__ import annotations

import csv
from typing import Any

import pytest

from mlcl.records.collect import collect
from mlcl.records.diagnosis import edges, lagging_average, untrained
from mlcl.records.outline import open_study
from mlcl.records.paths import CellId
from mlcl.reporting.contrasts import Contrasts
from mlcl.reporting.overview import overview
from mlcl.reporting.ranking import primary_metric
from mlcl.reporting.results import load_results
from mlcl.reporting.standings import standings
from mlcl.reporting.tables.grid import main_table
from tests.synthetic import Grid, edit_record

FALLING = "the training loss is still falling"


def measured(rate: float | None = 0.1, left: float | None = 0.2, **changes: Any) -> dict[str, Any]:
    """What a cell that was trained to its end measures, but for the changes."""
    curve = {"epochs": 20, "fall_rate": rate, "loss_left": left, "last_epoch_best": None}
    fit = {"split": "train", "map": 0.9, "prior_map": 0.2}
    return {"curve": curve | changes.get("curve", {}), "fit": fit | changes.get("fit", {})}


@pytest.mark.parametrize(
    ("diagnostics", "reasons"),
    [
        (None, []),
        ({}, []),
        (measured(), []),
        (measured(1.16, 0.1), []),  # bce on digit_scenes in the default study as it was
        (measured(2.26, 0.9), [FALLING]),  # jaccard there
        (measured(1.0, 0.9), [FALLING]),  # a fine-tuning rate on random weights
        (measured(0.3, 0.9), []),  # a contrastive loss that is done cannot reach 0
        (measured(None, None), []),
        (measured(None, 1.02), ["the training loss did not fall"]),
        (measured(curve={"last_epoch_best": True}), ["the last epoch is the best on validation"]),
        (measured(fit={"map": 0.23}), ["on training rows it is hardly better than the label prior"]),
        (measured(fit={"map": 0.23}, curve={"epochs": 0}), []),  # a baseline that trains nothing
        (measured(fit={"map": None, "prior_map": None}), []),
    ],
)
def test_each_rule_has_its_words(diagnostics: dict[str, Any] | None, reasons: list[str]) -> None:
    assert untrained(diagnostics) == reasons


@pytest.mark.parametrize(
    ("training", "steps", "percent"),
    [
        ({"epochs": 3, "ema_decay": 0.9997}, [50, 100, 150], 96),
        ({"epochs": 3, "ema_decay": 0.97}, [50, 100, 150], None),
        ({"epochs": 3, "ema_decay": None}, [50, 100, 150], None),
        ({"epochs": 3}, [50, 100, 150], None),
        ({"epochs": 3, "ema_decay": 0.9997}, [], None),
        # A second stage has an average of its own, over its own steps.
        (
            {"epochs": 2, "ema_decay": 0.99, "finetuning": {"epochs": 1, "ema_decay": 0.99}},
            [500, 1000, 1100],
            37,
        ),
        ({"epochs": 2, "ema_decay": 0.9997, "finetuning": {"epochs": 1}}, [50, 100, 1100], None),
    ],
)
def test_an_average_that_reaches_back_further_than_its_training_is_named(
    training: dict[str, Any], steps: list[int], percent: int | None
) -> None:
    words = f"the moving average of the weights still holds {percent} % of the initial ones"
    assert lagging_average(training, steps) == ([] if percent is None else [words])


def test_such_an_average_is_marked_and_nothing_is_concluded_from_it(grid: Grid) -> None:
    grid.plan().make_all()
    for seed in grid.seeds:
        folder = grid.paths.cell(CellId("scenes", "cnn", "reg", "base", seed))
        edit_record(folder, "result", "settings", value={"training": {"epochs": 12, "ema_decay": 0.9997}})
    collect(grid.opened)
    results = load_results("tiny")
    remark = "the moving average of the weights still holds 97 % of the initial ones (3 of 3 seeds)"
    assert results.rows["scenes", "cnn", "reg", "base"].untrained == (remark,)
    assert f"not trained to the end: {remark}" in main_table(results).notes
    (warning,) = (p for p in overview(results, Contrasts(results)) if "On Scenes, reg is not judged" in p)
    assert "On Scenes, reg is not judged (the moving average" in warning


def test_where_plain_weights_won_or_the_decay_warmed_up_the_average_is_no_reason(grid: Grid) -> None:
    grid.plan().make_all()
    training = {"epochs": 12, "ema_decay": 0.9997}
    for seed in grid.seeds:
        folder = grid.paths.cell(CellId("scenes", "cnn", "reg", "base", seed))
        edit_record(folder, "result", "settings", value={"training": training})
        edit_record(folder, "result", "diagnostics", value=measured() | {"ema": {"evaluated": "plain"}})
    collect(grid.opened)
    assert load_results("tiny").rows["scenes", "cnn", "reg", "base"].untrained == ()
    assert lagging_average(training, list(range(1, 13)))
    assert lagging_average(training | {"ema_warmup": True}, list(range(1, 13))) == []


def test_a_choice_at_an_end_of_the_grid_is_said_for_more_than_half() -> None:
    grid = {
        "learning_rate": {"lowest": 0.1, "highest": 0.8},
        "weight_decay": {"lowest": 0.5, "highest": 0.0},
    }
    assert edges({"grid": grid}) == [
        "linear evaluation chose the highest learning rate for 80 % of heads and labels"
    ]
    assert edges(None) == []


def test_tables_mark_such_rows_and_the_overview_compares_the_others(grid):
    grid.plan().make_all()
    for cell in grid.cells():
        if (cell.dataset, cell.loss) == ("scenes", "jaccard") and cell.seed < 2:
            grid.make(cell, diagnostics=measured(2.0, 0.9))
    collect(open_study("tiny"))
    with grid.paths.cells_csv.open(newline="") as file:
        assert sum(row["untrained"] == FALLING for row in csv.DictReader(file)) == 2
    results = load_results("tiny")
    assert results.rows["scenes", "cnn", "jaccard", "base"].untrained == (f"{FALLING} (2 of 3 seeds)",)
    table = main_table(results)
    note = next(note for note in table.notes if "not trained to the end" in note)
    marked = {row.key[0] for row in table.rows if any(table.notes[n] == note for n in row.cells[0].notes)}
    assert marked == {"jaccard"}
    apart, warning = overview(results, Contrasts(results))[:2]
    assert warning.startswith("What was not trained to the end is not judged; more epochs")
    assert f"On Scenes, jaccard is not judged ({FALLING})." in warning
    sentences = {s.split(",")[0]: s for s in apart.split(". ") if s.startswith("On ")}
    assert "jaccard" not in sentences["On Scenes"]
    assert "jaccard" not in sentences["On the mean over 2 datasets"]
    assert "On Docs" in sentences
    assert "Docs" not in warning, "where it was trained it is judged"


def test_the_intervals_of_the_others_are_those_of_the_table(grid):
    grid.plan().make_all()
    collect(open_study("tiny"))
    results = load_results("tiny")
    metric = primary_metric(results)
    everything = standings(results, metric, Contrasts(results))
    columns = {s.column: s for s in everything if s.column is not None}
    left_out = {column: {s.order[-1]} for column, s in columns.items()}
    for standing in standings(results, metric, Contrasts(results), left_out):
        if standing.column is not None:
            whole = columns[standing.column]
            assert set(standing.means) == set(whole.means) - left_out[standing.column]
            assert all(standing.intervals[loss] == whole.intervals[loss] for loss in standing.intervals)
    alone = {column: set(s.order[1:]) for column, s in columns.items()}
    assert standings(results, metric, Contrasts(results), alone) == []
