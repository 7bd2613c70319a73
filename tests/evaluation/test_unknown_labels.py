"""Unknown labels (-1) take no part: every metric against one computed on what is known alone, cell by cell."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from torch.nn import functional as F

from mlcl.evaluation import knn, linear
from mlcl.evaluation.metrics import (
    MetricsError,
    average_precisions,
    best_thresholds,
    evaluate,
    evaluate_splits,
    mean_average_precision,
)
from mlcl.evaluation.representation import evaluate_embeddings
from mlcl.reporting.statistics import examples

ROWS, LABELS = 120, 6
OF_ROWS = {
    "subset_accuracy", "samples_f1", "lrap", "coverage_error", "ranking_loss", "one_error",
    *(f"{name}_top3" for name in ("cp", "cr", "cf1", "op", "or", "of1")),
    *(f"{name}_at_{k}" for name in ("p", "r", "ndcg") for k in (1, 3, 5)),
    *(f"{name}_size_{band}" for name in ("macro_f1", "map") for band in ("1", "2_3", "4_up")),
}  # fmt: skip


def make(seed: int = 0, decimals: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Labels of which a tenth is unknown, and scores; label 4 has no known positive, label 5 no known negative."""
    rng = np.random.default_rng(seed)
    y = (rng.random((ROWS, LABELS)) < 0.35).astype(np.int8)
    p = np.clip(rng.normal(0.35 + 0.2 * y, 0.2), 0, 1)
    y[rng.random(y.shape) < 0.1] = -1
    y[y[:, 4] == 1, 4] = -1
    y[y[:, 5] == 0, 5] = -1
    y[:40] = np.maximum(y[:40], 0)
    return y, p.round(decimals) if decimals else p


@pytest.fixture(params=[None, 1], ids=["plain", "ties"], name="case")
def case_(request: pytest.FixtureRequest) -> tuple[np.ndarray, np.ndarray]:
    return make(decimals=request.param)


Case = tuple[np.ndarray, np.ndarray]


def test_metrics_of_rows_are_those_of_the_rows_known_wholly(case: Case) -> None:
    y, p = case
    whole = (y >= 0).all(axis=1)
    assert 40 <= whole.sum() < ROWS
    found, expected = evaluate(y, p), evaluate(y[whole], p[whole])
    assert OF_ROWS & expected.keys() == OF_ROWS & found.keys()
    assert {name: found[name] for name in OF_ROWS & found.keys()} == {
        name: expected[name] for name in OF_ROWS & found.keys()
    }


def test_metrics_of_pooled_pairs_are_those_of_the_known_pairs(case: Case) -> None:
    y, p = case
    known = y >= 0
    found, pooled = evaluate(y, p), evaluate(y[known][:, None], p[known][:, None])
    of_pairs = ("micro_f1", "hamming_loss", "op", "or", "of1", "micro_map", "micro_auc", "ece")
    assert {n: found[n] for n in of_pairs} == pytest.approx({n: pooled[n] for n in of_pairs}, abs=1e-12)


def test_metrics_of_labels_are_those_of_the_rows_that_know_the_label(case: Case) -> None:
    y, p = case
    columns = [(y[y[:, k] >= 0, k], p[y[:, k] >= 0, k]) for k in range(LABELS)]
    there = [(truth, scores) for truth, scores in columns if truth.any()]
    f1 = [sk.f1_score(truth, scores > 0.5, zero_division=0) for truth, scores in there]
    expected = {
        "macro_f1": np.mean(f1),
        "macro_f1_all_labels": np.sum(f1) / LABELS,
        "weighted_f1": np.average(f1, weights=[truth.sum() for truth, _ in there]),
        "cp": np.mean([sk.precision_score(t, s > 0.5, zero_division=0) for t, s in there]),
        "cr": np.mean([sk.recall_score(t, s > 0.5) for t, s in there]),
        "map": np.mean([sk.average_precision_score(t, s) for t, s in there]),
        "macro_auc": np.mean([sk.roc_auc_score(t, s) for t, s in there if not t.all()]),
    }
    found = evaluate(y, p)
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-12)
    assert mean_average_precision(y, p) == pytest.approx(expected["map"], abs=1e-12)
    for k, value in enumerate(average_precisions(y, p)):
        truth, scores = columns[k]
        assert (
            value == pytest.approx(sk.average_precision_score(truth, scores))
            if truth.any()
            else value != value
        )
    thresholds = best_thresholds(y, p)
    for k, (truth, scores) in enumerate(columns):
        assert thresholds[k] == best_thresholds(truth[:, None], scores[:, None])[0]


def test_all_metrics_are_covered_here() -> None:
    of_cells = {
        "micro_f1", "hamming_loss", "op", "or", "of1", "micro_map", "micro_auc", "ece", "macro_f1",
        "macro_f1_all_labels", "weighted_f1", "cp", "cr", "cf1", "map", "macro_auc",
    }  # fmt: skip
    assert evaluate(*make()).keys() == OF_ROWS | of_cells


def test_what_needs_both_splits(case: Case) -> None:
    y, p = case
    y_val, p_val = make(seed=1)
    counts = [60, 50, 40, 30, 20, 10]
    found = evaluate_splits((y_val, p_val), (y, p), counts, 100)["test"]
    tuned = evaluate(y, p, best_thresholds(y_val, p_val))
    assert found["macro_f1_tuned"] == tuned["macro_f1"]
    assert found["hamming_loss_tuned"] == tuned["hamming_loss"]
    assert found["subset_accuracy_at_80"] == evaluate(y, p, 0.8)["subset_accuracy"]
    head = evaluate(y[:, :2], p[:, :2])
    assert (found["macro_f1_head"], found["map_head"]) == pytest.approx((head["macro_f1"], head["map"]))
    whole = (y >= 0).all(axis=1)
    rows_alone = evaluate_splits((y_val, p_val), (y[whole], p[whole]), counts, 100)["test"]
    assert found["psp_at_3"] == rows_alone["psp_at_3"]


def test_without_a_row_that_is_known_wholly() -> None:
    y, p = make()
    y[np.arange(ROWS), np.arange(ROWS) % 4] = -1
    found = evaluate(y, p)
    assert not OF_ROWS & found.keys()
    assert {"micro_f1", "macro_f1", "map", "ece", "hamming_loss"} <= found.keys()


def test_known_labels_give_the_same_bits_whatever_their_type() -> None:
    y, p = make()
    y = np.maximum(y, 0)
    assert evaluate(y, p) == evaluate(y.astype(np.bool_), p) == evaluate(y.astype(np.float64), p)


def test_what_is_no_label() -> None:
    y, p = make()
    with pytest.raises(MetricsError, match="labels must be 0 or 1, or -1 where they are unknown"):
        evaluate(np.where(y == 1, 2, y), p)
    with pytest.raises(MetricsError, match="no label is known"):
        evaluate(np.full_like(y, -1), p)


@pytest.mark.parametrize("metric", sorted(examples.METRICS))
def test_without_groups_of_rows(metric: str, case: Case) -> None:
    """The values that intervals over examples follow from are the metrics of the other rows."""
    y, p = case[0], case[1].astype(np.float32)
    scored = examples.Scored(y == 1, p, known=y >= 0)
    weights = np.random.default_rng(0).integers(0, 3, size=(20, ROWS)).astype(np.float32)
    for value, weight in zip(examples.prepare(scored, metric)(weights), weights, strict=True):
        drawn = np.repeat(np.arange(ROWS), weight.astype(int))
        assert value == pytest.approx(evaluate(y[drawn], p[drawn])[metric], abs=1e-5)


def test_bands_and_tuned_thresholds_without_groups_of_rows() -> None:
    y, p = make()
    y_val, p_val = make(seed=1)
    expected = evaluate_splits((y_val, p_val), (y, p), [60, 50, 40, 30, 20, 10], 100)["test"]
    bands = {"head": np.array([0, 1]), "tail": np.array([4, 5])}
    scored = examples.Scored(y == 1, p.astype(np.float32), best_thresholds(y_val, p_val), bands, y >= 0)
    every = np.ones((1, ROWS), dtype=np.float32)
    for metric in ("macro_f1_tuned", "hamming_loss_tuned", "macro_f1_head", "map_tail"):
        assert examples.prepare(scored, metric)(every)[0] == pytest.approx(expected[metric], abs=1e-6)


def test_metrics_of_embeddings_are_those_of_the_rows_known_wholly() -> None:
    y, y_val = make()[0], make(seed=1)[0]
    z, z_val = np.random.default_rng(2).normal(size=(2, ROWS, 5))
    whole, whole_val = (y >= 0).all(axis=1), (y_val >= 0).all(axis=1)
    expected = evaluate_embeddings((y_val[whole_val], z_val[whole_val]), (y[whole], z[whole]))
    assert evaluate_embeddings((y_val, z_val), (y, z)) == expected != {}
    assert evaluate_embeddings((y_val, z_val), (np.full_like(y, -1), z)) == {}


def test_linear_heads_leave_out_the_rows_that_do_not_know_the_label() -> None:
    """Heads trained by torch's AdamW on the mean over the known cells of each batch, from the same start."""
    grid = linear.Grid((0.1, 0.01), (0.1, 0.0), heads=1, epochs=3, batch_size=32)
    features = torch.randn(ROWS, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels, val_labels = (torch.from_numpy(make(seed)[0]) for seed in (0, 1))
    heads = linear.fit(features, labels, features, val_labels, grid, torch.Generator().manual_seed(5))

    generator = torch.Generator().manual_seed(5)
    start = (torch.rand(1, 8, LABELS, generator=generator) * 2 - 1)[0] / math.sqrt(7)
    orders = [torch.randperm(ROWS, generator=generator) for _ in range(grid.epochs)]
    batches = [rows for order in orders for rows in order.split(grid.batch_size)]
    trained, scores = [], []
    for rate, decay in grid.combinations:
        weight, bias = (part.double().clone().requires_grad_() for part in (start[:-1], start[-1]))
        groups = [{"params": [weight], "weight_decay": decay}, {"params": [bias], "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=rate)
        for step, rows in enumerate(batches):
            for group in optimizer.param_groups:
                group["lr"] = rate * (1 - step / len(batches))
            optimizer.zero_grad()
            known = labels[rows] >= 0
            logits = (features[rows] @ weight + bias)[known]
            F.binary_cross_entropy_with_logits(logits, labels[rows][known].double()).backward()
            optimizer.step()
        predicted = (features @ weight + bias > 0).numpy()
        trained.append(torch.cat([weight.detach(), bias.detach()[None]]))
        columns = zip(val_labels.numpy().T, predicted.T, strict=True)
        scores.append([sk.f1_score(t[t >= 0], guess[t >= 0], zero_division=0) for t, guess in columns])
    assert heads.chosen[0].tolist() == np.argmax(scores, axis=0).tolist()
    expected = torch.stack([trained[c][:, k] for k, c in enumerate(heads.chosen[0])], dim=1)
    torch.testing.assert_close(heads.weights[0], expected[:-1], rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(heads.biases[0], expected[-1], rtol=1e-6, atol=1e-8)


def test_neighbours_are_refused() -> None:
    labels = torch.from_numpy(make()[0])
    with pytest.raises(MetricsError, match="some are unknown"):
        knn.fit(torch.randn(ROWS, 3), labels, torch.randn(ROWS, 3), labels)
