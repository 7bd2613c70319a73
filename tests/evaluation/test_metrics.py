"""Each metric against an independent computation: scikit-learn where it has the metric, a plain loop where not."""

from __future__ import annotations

import tracemalloc
import warnings

import numpy as np
import pytest
from sklearn import metrics as sk

from mlcl.evaluation.metrics import (
    MetricsError,
    best_thresholds,
    evaluate,
    evaluate_splits,
    frequency_bands,
)


def make(rows=200, labels=12, density=0.2, decimals=None, seed=0):
    """Labels and scores that know something of them; few decimals give many ties."""
    rng = np.random.default_rng(seed)
    y = rng.random((rows, labels)) < density * rng.random(labels) * 2
    p = np.clip(rng.normal(0.3 + 0.25 * y, 0.2), 0, 1)
    return y.astype(np.uint8), p.round(decimals) if decimals is not None else p


CASES = {
    "plain": make(),
    "ties": make(decimals=1),
    "few_labels": make(labels=3, density=0.5),
    "one_label": make(labels=1, density=0.5),
    "label_without_positive": (lambda y, p: (np.where(np.arange(12) == 4, 0, y), p))(*make()),
    "label_without_negative": (lambda y, p: (np.where(np.arange(12) == 4, 1, y), p))(*make()),
    "all_scores_equal": (make()[0], np.full((200, 12), 0.25)),
    "float32": (make()[0], make()[1].astype(np.float32)),
}


@pytest.fixture(params=CASES, name="case")
def case_(request):
    y, p = CASES[request.param]
    return y.astype(int), p


def there(y):
    return y.any(axis=0)


def test_f1_hamming_and_exact_match_equal_scikit_learn(case):
    y, p = case
    guessed = (p > 0.5).astype(int)
    result = evaluate(y, p)
    if y.shape[1] == 1:  # scikit-learn takes a single column for a binary problem
        assert result["micro_f1"] == pytest.approx(sk.f1_score(y[:, 0], guessed[:, 0]))
        return
    kept = there(y)
    expected = {
        "micro_f1": sk.f1_score(y, guessed, average="micro", zero_division=0),
        "macro_f1": sk.f1_score(y[:, kept], guessed[:, kept], average="macro", zero_division=0),
        "macro_f1_all_labels": sk.f1_score(y, guessed, average="macro", zero_division=0),
        "weighted_f1": sk.f1_score(y, guessed, average="weighted", zero_division=0),
        "samples_f1": sk.f1_score(y, guessed, average="samples", zero_division=1.0),
        "hamming_loss": sk.hamming_loss(y, guessed),
        "subset_accuracy": sk.accuracy_score(y, guessed),
        "cp": sk.precision_score(y[:, kept], guessed[:, kept], average="macro", zero_division=0),
        "cr": sk.recall_score(y[:, kept], guessed[:, kept], average="macro", zero_division=0),
        "op": sk.precision_score(y, guessed, average="micro", zero_division=0),
        "or": sk.recall_score(y, guessed, average="micro", zero_division=0),
    }
    assert {m: result[m] for m in expected} == pytest.approx(expected, abs=1e-12)


def test_map_and_auc_equal_scikit_learn(case):
    y, p = case
    result = evaluate(y, p)
    kept = there(y)
    assert result["map"] == pytest.approx(
        np.mean([sk.average_precision_score(y[:, k], p[:, k]) for k in np.flatnonzero(kept)]), abs=1e-12
    )
    assert result["micro_map"] == pytest.approx(sk.average_precision_score(y.ravel(), p.ravel()), abs=1e-12)
    both = kept & ~y.all(axis=0)
    assert result["macro_auc"] == pytest.approx(
        np.mean([sk.roc_auc_score(y[:, k], p[:, k]) for k in np.flatnonzero(both)]), abs=1e-12
    )
    assert result["micro_auc"] == pytest.approx(sk.roc_auc_score(y.ravel(), p.ravel()), abs=1e-12)


def test_rankings_of_labels_equal_scikit_learn_on_the_rows_that_have_labels(case):
    y, p = case
    result = evaluate(y, p)
    y, p = y[y.any(axis=1)], p[y.any(axis=1)]
    if y.shape[1] == 1:
        assert result["lrap"] == result["p_at_1"] == result["coverage_error"] == 1
        return
    assert result["lrap"] == pytest.approx(sk.label_ranking_average_precision_score(y, p), abs=1e-12)
    assert result["coverage_error"] == pytest.approx(sk.coverage_error(y, p), abs=1e-12)
    assert result["ranking_loss"] == pytest.approx(sk.label_ranking_loss(y, p), abs=1e-12)
    for k in (1, 3, 5):
        if k <= y.shape[1]:
            assert result[f"ndcg_at_{k}"] == pytest.approx(sk.ndcg_score(y, p, k=k), abs=1e-12)
        else:
            assert f"ndcg_at_{k}" not in result


def expected_hits(y_row, p_row, k):
    """Hits among the first k, averaged over many random orders of the tied."""
    random = np.random.default_rng(0).random((4000, len(p_row)))
    order = np.lexsort((random, np.broadcast_to(-p_row, random.shape)))
    return y_row[order[:, :k]].sum(axis=1).mean()


def test_precision_at_k_is_the_expectation_over_orders_of_ties():
    y, p = make(rows=12, labels=6, density=0.4, decimals=1)
    y[0] = 0
    result = evaluate(y, p)
    rows = np.flatnonzero(y.any(axis=1))
    for k in (1, 3, 5):
        hits = np.array([expected_hits(y[i], p[i], k) for i in rows])
        assert result[f"p_at_{k}"] == pytest.approx(np.mean(hits / k), abs=0.01)
        assert result[f"r_at_{k}"] == pytest.approx(np.mean(hits / y[rows].sum(1)), abs=0.01)
    assert result["one_error"] == pytest.approx(1 - result["p_at_1"])


def test_values_worked_out_by_hand():
    y = [[1, 0, 0], [1, 1, 0], [0, 0, 0]]
    p = [[0.9, 0.8, 0.1], [0.6, 0.2, 0.7], [0.1, 0.1, 0.4]]
    result = evaluate(y, p)
    # Label 0: hits rows 0 and 1; label 1: predicted in row 0 only, wrong; label 2 has no positive.
    assert result["macro_f1"] == pytest.approx((1.0 + 0.0) / 2)
    assert result["micro_f1"] == pytest.approx(2 * 2 / (3 + 4))
    assert result["cf1"] == pytest.approx(0.5)
    # Row 2 has no labels, and none is predicted: right. F1 of the rows: 2/3, 1/2, 1.
    assert result["samples_f1"] == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert result["subset_accuracy"] == pytest.approx(1 / 3)
    assert result["hamming_loss"] == pytest.approx(3 / 9)
    # Label 0: ranked 1 and 2. Label 1: its positive has the second-highest of its scores.
    assert result["map"] == pytest.approx((1.0 + 0.5) / 2)
    assert result["p_at_1"] == pytest.approx(1 / 2)
    assert result["coverage_error"] == pytest.approx((1 + 3) / 2)


def test_a_score_of_exactly_one_half_is_not_predicted():
    assert evaluate([[1, 0]], [[0.5, 0.0]])["micro_f1"] == 0


def test_what_is_undefined_is_left_out():
    result = evaluate(np.zeros((3, 2)), np.full((3, 2), 0.2))
    assert result["hamming_loss"] == 0
    assert result["samples_f1"] == 1
    assert not {"micro_f1", "macro_f1", "map", "lrap", "macro_auc"} & set(result)


WITHOUT_POSITIVES = {"hamming_loss", "subset_accuracy", "samples_f1"}
"""And `ece`: all that is defined for a split without a positive."""


@pytest.mark.parametrize("empty", ["val", "test", "both"])
def test_a_split_without_a_positive_has_the_metrics_that_are_defined(empty):
    y, p = make(rows=30, labels=4, density=0.4)
    none = np.zeros_like(y)
    val, test = (none if empty in (split, "both") else y for split in ("val", "test"))
    result = evaluate_splits((val, p), (test, p), train_counts=[9, 5, 2, 0], train_examples=30)
    for split, labels in (("val", val), ("test", test)):
        assert all(np.isfinite(value) for value in result[split].values())
        decisions = WITHOUT_POSITIVES | {"ece"}
        if split == "test":
            decisions |= {
                f"{name}_{rule}" for name in WITHOUT_POSITIVES for rule in ("tuned", "oracle", "at_80")
            }
        assert decisions <= result[split].keys()
        if not labels.any():
            assert result[split].keys() == decisions
        else:
            assert {"micro_f1", "map", "lrap", "psp_at_1", "macro_f1_head"} <= result[split].keys()
    if empty != "test" and empty != "both":
        assert (
            result["test"]["micro_f1_tuned"] == result["test"]["micro_f1"]
        )  # nothing to tune on: 0.5 is kept


def test_calibration_error_is_the_gap_of_score_and_frequency():
    y = np.repeat([[1], [0]], [30, 70], axis=0)
    assert evaluate(y, np.full((100, 1), 0.3))["ece"] == pytest.approx(0, abs=1e-12)
    assert evaluate(y, np.full((100, 1), 0.9))["ece"] == pytest.approx(0.6)
    y, p = make()
    bins = np.minimum((p * 15).astype(int), 14)
    gaps = [(bins == b).sum() * abs(p[bins == b].mean() - y[bins == b].mean()) for b in np.unique(bins)]
    assert evaluate(y, p)["ece"] == pytest.approx(sum(gaps) / y.size)


def test_top3_predicts_the_three_labels_with_the_highest_scores():
    y, p = make()
    guessed = np.zeros_like(y)
    np.put_along_axis(guessed, np.argsort(-p, axis=1)[:, :3], 1, axis=1)
    result = evaluate(y, p)
    kept = there(y)
    assert result["op_top3"] == pytest.approx(sk.precision_score(y, guessed, average="micro"))
    assert result["cr_top3"] == pytest.approx(sk.recall_score(y[:, kept], guessed[:, kept], average="macro"))
    harmonic = 2 * result["cp_top3"] * result["cr_top3"] / (result["cp_top3"] + result["cr_top3"])
    assert result["cf1_top3"] == pytest.approx(harmonic)


def test_tuned_thresholds_are_the_best_there_are(case):
    y, p = case
    thresholds = best_thresholds(y, p)
    for label in range(y.shape[1]):
        if not y[:, label].any():
            assert thresholds[label] == 0.5
            continue
        precision, recall, _ = sk.precision_recall_curve(y[:, label], p[:, label])
        best = np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12))
        reached = sk.f1_score(y[:, label], p[:, label] > thresholds[label], zero_division=0)
        # Where every row must be predicted and the lowest score is 0, no threshold in [0, 1] reaches it.
        assert reached == pytest.approx(best, abs=1e-12) or p[:, label].min() == 0


def test_tuned_thresholds_come_from_validation_and_oracle_ones_from_test():
    val, test = make(seed=1), make(seed=2)
    result = evaluate_splits(val, test)["test"]
    at_val = evaluate(*test, thresholds=best_thresholds(*val))
    at_test = evaluate(*test, thresholds=best_thresholds(*test))
    at_80 = evaluate(*test, thresholds=0.8)
    for metric in ("micro_f1", "macro_f1", "hamming_loss", "subset_accuracy", "samples_f1"):
        assert result[f"{metric}_tuned"] == at_val[metric]
        assert result[f"{metric}_oracle"] == at_test[metric]
        assert result[f"{metric}_at_80"] == at_80[metric]
    assert result["macro_f1_oracle"] >= result["macro_f1_tuned"]


def test_bands_of_frequency_and_set_size_are_metrics_of_a_part():
    val, test = make(seed=1), make(seed=2)
    counts = np.arange(12) % 5
    result = evaluate_splits(val, test, counts)["test"]
    bands = frequency_bands(counts)
    assert [len(band) for band in bands.values()] == [4, 4, 4]
    assert counts[bands["head"]].min() >= counts[bands["medium"]].max() >= counts[bands["tail"]].max()
    for name, labels in bands.items():
        part = evaluate(test[0][:, labels], test[1][:, labels])
        assert result[f"macro_f1_{name}"] == part["macro_f1"]
        assert result[f"map_{name}"] == part["map"]
    rows = test[0].sum(1) >= 4
    part = evaluate(test[0][rows], test[1][rows])
    assert result["macro_f1_size_4_up"] == part["macro_f1"]
    assert result["map_size_4_up"] == part["map"]


def test_propensity_scored_precision_equals_a_plain_loop():
    val, (y, p) = make(seed=1), make(seed=2)
    counts, examples = np.arange(12) ** 2, 500
    c = (np.log(examples) - 1) * 2.5**0.55
    weight = 1 + c * (counts + 1.5) ** -0.55
    for k in (1, 3, 5):
        reached = best = 0.0
        for i in range(len(y)):
            top = np.argsort(-p[i])[:k]
            reached += sum(weight[j] for j in top if y[i, j])
            best += sum(sorted((weight[j] for j in range(12) if y[i, j]), reverse=True)[:k])
        result = evaluate_splits(val, (y, p), counts, examples)["test"]
        assert result[f"psp_at_{k}"] == pytest.approx(reached / best)


def test_order_of_rows_and_labels_plays_no_part():
    y, p = make(decimals=1)
    rng = np.random.default_rng(3)
    rows, labels = rng.permutation(len(y)), rng.permutation(y.shape[1])
    assert evaluate(y[rows][:, labels], p[rows][:, labels]) == pytest.approx(evaluate(y, p), abs=1e-12)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1.5, -0.1])
def test_scores_that_are_no_probabilities_are_refused_and_the_row_is_named(value):
    y, p = make()
    p[7, 3] = value
    with pytest.raises(MetricsError, match="row that is not: 7"):
        evaluate(y, p)


@pytest.mark.parametrize(
    ("labels", "scores"),
    [(np.zeros((3, 2)), np.zeros((3, 3))), (np.zeros(3), np.zeros(3)), (np.zeros((0, 2)), np.zeros((0, 2)))],
)
def test_wrong_shapes_are_refused(labels, scores):
    with pytest.raises(MetricsError, match="rows, labels"):
        evaluate(labels, scores)


def test_labels_that_are_not_0_or_1_are_refused():
    with pytest.raises(MetricsError, match="0 or 1"):
        evaluate([[2, 0]], [[0.5, 0.5]])


def test_every_metric_is_a_plain_finite_float():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for y, p in CASES.values():
            result = evaluate_splits((y, p), (y, p), y.sum(0), len(y))
            for values in result.values():
                assert all(type(value) is float and np.isfinite(value) for value in values.values())


@pytest.mark.slow
def test_memory_stays_a_small_multiple_of_the_scores():
    rng = np.random.default_rng(0)
    p = rng.random((300_000, 28), dtype=np.float32)
    y = p > 0.95
    tracemalloc.start()
    evaluate(y, p)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * p.nbytes
