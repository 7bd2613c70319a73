"""What is measured to tell whether a cell was trained: by hand, and on cells that were and were not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tiny import cell, run
from torch import nn

from mlcl import losses
from mlcl.data import PreparedDataset
from mlcl.evaluation.linear import Grid, LinearHeads
from mlcl.evaluation.metrics import evaluate
from mlcl.records.diagnosis import untrained
from mlcl.training import diagnostics
from mlcl.training.events import EpochEnd
from mlcl.training.settings import CellSettings


def curve(losses: list[float], rates: list[float], **validation: list[float]) -> list[EpochEnd]:
    return [
        EpochEnd(i + 1, i + 1, loss, rate, i + 1.0, 1.0, 0.0, **{key: v[i] for key, v in validation.items()})
        for i, (loss, rate) in enumerate(zip(losses, rates, strict=True))
    ]


def test_a_steady_fall_has_the_mean_rate_whatever_the_schedule() -> None:
    """A loss that is linear in the summed learning rate: a schedule that ends at 0 does not hide it."""
    rates = [1.0, 0.9, 0.6, 0.3, 0.1, 0.01]
    losses = [1 - 0.1 * spent for spent in np.cumsum(rates)]
    found = diagnostics.of_curve(curve(losses, rates), {"epochs": 6})
    assert found["fall_rate"] == pytest.approx(1)
    assert found["loss_left"] == pytest.approx(losses[-1] / losses[0])
    assert found["last_epoch_best"] is None


def test_a_loss_that_is_done_has_rate_0_and_one_that_begins_late_a_high_one() -> None:
    equal = [0.1] * 10
    done = diagnostics.of_curve(curve([1, 0.5, *[0.2] * 8], equal), {"epochs": 10})
    late = diagnostics.of_curve(curve([*[1] * 9, 0.5], equal), {"epochs": 10})
    assert done["fall_rate"] == pytest.approx(0)
    assert late["fall_rate"] == pytest.approx(9)


def test_the_value_of_reg_tells_nothing_of_its_training() -> None:
    """It holds a detached term, so that it may rise while the gradient is followed."""
    for name, tells in (("reg", False), ("reg_ablated", True), ("bce", True), ("joint", True)):
        method = nn.Sequential(nn.Linear(3, 3), losses.create(name, 3, 3))
        assert diagnostics.value_is_objective(method) is tells, name
    joined = losses.create("joint", 3, 3, contrastive="reg")
    assert not diagnostics.value_is_objective(joined)
    found = diagnostics.of_curve(curve([1, 2, 3, 4, 5], [1] * 5), {"epochs": 5}, value_tells=False)
    assert (found["epochs"], found["fall_rate"], found["loss_left"]) == (5, None, None)
    assert untrained({"curve": found, "fit": {"split": "train", "map": None, "prior_map": 0.1}}) == []


def test_few_epochs_tell_nothing_and_fine_tuning_is_its_own_stage() -> None:
    assert diagnostics.of_curve(curve([1, 0.5], [1, 1]), {"epochs": 2})["fall_rate"] is None
    both = curve([9, 8, 7, 1, 0.8, 0.6, 0.4, 0.2], [1.0] * 8)
    found = diagnostics.of_curve(both, {"epochs": 3, "finetuning": {"epochs": 5, "selection": "last"}})
    assert (found["epochs"], found["loss_left"]) == (5, pytest.approx(0.2))


@pytest.mark.parametrize(
    ("rule", "values", "last"),
    [
        ("best_val_loss", [3.0, 2, 1], True),
        ("best_val_loss", [3.0, 1, 2], False),
        ("best_val_micro_f1", [0.1, 0.2, 0.3], True),
        ("best_val_micro_f1", [0.3, 0.2, 0.3], False),
    ],
)
def test_the_best_epoch_on_validation(rule: str, values: list[float], last: bool) -> None:
    lines = curve([1, 1, 1], [1, 1, 1], **{rule.removeprefix("best_"): values})
    assert diagnostics.of_curve(lines, {"epochs": 3, "selection": rule})["last_epoch_best"] is last


def test_the_prior_s_map_is_that_of_constant_scores() -> None:
    rng = np.random.default_rng(0)
    labels, scores = rng.random((50, 4)) < 0.3, rng.random((50, 4)).astype(np.float32)
    found = diagnostics.of_fit("train", labels, scores)
    constant = np.tile(labels.mean(0), (50, 1)).astype(np.float32)
    assert found["prior_map"] == pytest.approx(evaluate(labels, constant)["map"])
    assert found["map"] == evaluate(labels, scores)["map"]


def test_shares_of_the_ends_of_the_grid_are_counted_over_heads_and_labels() -> None:
    grid = Grid(learning_rates=(1.0, 0.1, 0.01), weight_decays=(0.1, 0.0), heads=2)
    chosen = torch.tensor([[0, 1, 2], [5, 2, 3]])  # learning rates 1, 1, 0.1 and 0.01, 0.1, 0.1
    found = diagnostics.of_grid(LinearHeads(torch.zeros(2, 1, 3), torch.zeros(2, 3), chosen), grid)
    assert found == {"learning_rate": {"lowest": pytest.approx(1 / 6), "highest": pytest.approx(2 / 6)}}


LONG: dict[str, Any] = {"epochs": 40, "head_dropout": 0.0}


def diagnosed(settings: CellSettings, dataset: PreparedDataset) -> dict[str, Any]:
    """As they stand in a record."""
    outcome = run(settings, dataset)
    assert outcome.fit_rows is not None
    return {**outcome.diagnostics, "fit": diagnostics.of_fit(*outcome.fit_rows)}


def test_a_fine_tuning_rate_on_random_weights_is_seen_and_a_trained_cell_is_not_marked(
    vectors: PreparedDataset,
) -> None:
    slow = diagnosed(cell(vectors, "bce", training=LONG | {"learning_rate": 5e-5}), vectors)
    good = diagnosed(cell(vectors, "bce", training=LONG | {"learning_rate": 0.05}), vectors)
    assert "the training loss is still falling" in untrained(slow)
    assert untrained(good) == []
    assert good["fit"]["map"] > slow["fit"]["map"]
    assert run(cell(vectors, None, "label_prior"), vectors).fit_rows is None
    assert untrained(diagnosed(cell(vectors, None, "random_encoder"), vectors)) == []


def test_which_weights_are_evaluated_where_they_compete() -> None:
    assert diagnostics.of_average(None) is None
    for averaged, plain, best in ((0.5, 0.4, "averaged"), (0.4, 0.5, "plain"), (0.5, 0.5, "averaged")):
        found = diagnostics.of_average({"averaged": averaged, "plain": plain})
        assert found == {"evaluated": best, "val_map": {"averaged": averaged, "plain": plain}}
    lost = diagnostics.of_average({"averaged": float("nan"), "plain": 0.4})
    assert lost == {"evaluated": "plain", "val_map": {"averaged": None, "plain": 0.4}}
