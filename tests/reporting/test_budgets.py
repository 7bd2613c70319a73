"""What each loss was given, in words, and where the words come from."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mlcl.reporting.budgets import selection_rule, tuning_in_words
from mlcl.reporting.figures.sensitivity import base_value

SHARED = {"epochs": 3, "batch_size": 32, "selection": "last"}


def planned(grid, **changes):
    for name, value in changes.items():
        setattr(grid, name, value)
    grid.plan()
    return grid.opened.outline


def test_one_rule_for_all_is_said_once(grid):
    text = selection_rule(planned(grid))
    assert text.startswith(
        "Readout: linear heads on frozen features, whose settings are chosen on validation. Model selection: the "
        "weights of the last epoch are evaluated."
    )
    assert "bce" not in text


def test_different_rules_are_said_with_their_losses(grid):
    training = {"contrastive_linear": SHARED, "end_to_end": SHARED | {"selection": "best_val_micro_f1"}}
    text = selection_rule(planned(grid, training=training))
    assert "the epoch with the best validation micro-F1 are evaluated (bce)" in text
    assert "the last epoch are evaluated (jaccard, reg)" in text


@pytest.mark.parametrize(
    ("rule", "words"),
    [("best_val_loss", "lowest validation loss"), ("best_val_map", "best validation mAP"), ("ema", "'ema'")],
)
def test_each_rule_has_its_words(grid, rule, words):
    training = dict.fromkeys(("contrastive_linear", "end_to_end"), SHARED | {"selection": rule})
    assert words in selection_rule(planned(grid, training=training))


def test_the_same_settings_are_equal_budgets_whatever_else_a_protocol_has(grid):
    training = {
        "contrastive_linear": SHARED | {"projection_dim": 64},
        "end_to_end": SHARED | {"head_dropout": 0.1},
    }
    text = tuning_in_words(planned(grid, training=training))
    assert "Budgets are equal" in text
    assert "chooses among 1 settings of its heads" in text


def test_an_encoders_settings_reach_the_protocols_that_know_them(grid):
    training = {"contrastive_linear": SHARED | {"projection_dim": 64}, "end_to_end": SHARED}
    grid.training_of_encoders = {"cnn": {"projection_dim": 8, "epochs": 5}}
    outline = planned(grid, training=training)
    assert outline.training_of("reg", "cnn") == SHARED | {"projection_dim": 8, "epochs": 5}
    assert outline.training_of("bce", "cnn") == SHARED | {"epochs": 5}
    assert "Budgets are equal" in tuning_in_words(outline)


def test_a_loss_or_protocol_with_settings_of_its_own_is_named(grid):
    training = {"contrastive_linear": SHARED, "end_to_end": SHARED | {"batch_size": 16}}
    text = tuning_in_words(planned(grid, training=training, training_of_losses={"reg": {"epochs": 9}}))
    assert "Budgets are not equal: epochs 9 for reg with cnn, 3 for the others" in text
    assert "batch size 16 for bce with cnn, 32 for the others" in text


def test_the_value_that_a_sweep_starts_from_is_the_losss_own(grid):
    outline = planned(grid, training_of_losses={"reg": {"batch_size": 8}})
    places = {
        loss: base_value(outline, ("training", "batch_size"), "scenes", "cnn", loss)
        for loss in ("bce", "reg")
    }
    assert places == {"bce": 32.0, "reg": 8.0}


def test_the_threshold_is_that_of_the_metrics_which_are_shown(grid):
    outline = planned(grid)
    assert selection_rule(outline).endswith("Decisions at threshold 0.5.")
    other = selection_rule(replace(outline, metrics=["map", "cf1_at_80"]))
    assert other.endswith("Decisions at threshold 0.5 where a metric's name says no other.")


def test_a_variant_with_a_rule_of_its_own_is_named(grid):
    outline = planned(grid)
    cells = [
        replace(cell, selection="best_val_loss" if cell.id.variant != "base" else "last")
        for cell in outline.cells
    ]
    other = replace(cells[0], id=replace(cells[0].id, variant="finetuned"), selection="best_val_loss")
    text = selection_rule(replace(outline, cells=[*cells, other]))
    assert (
        "last epoch are evaluated; in the variant finetuned, the weights of the epoch with the lowest" in text
    )
