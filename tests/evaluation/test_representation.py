"""Metrics of embeddings against plain loops and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score
from sklearn.neighbors import KNeighborsClassifier

from mlcl.evaluation.metrics import MetricsError
from mlcl.evaluation.representation import evaluate_embeddings, relations


def make(rows, seed):
    rng = np.random.default_rng(seed)
    y = (rng.random((rows, 5)) < 0.35).astype(int)
    z = y @ np.random.default_rng(9).normal(size=(5, 16)) + rng.normal(0, 0.8, (rows, 16))
    return y, z / np.linalg.norm(z, axis=1, keepdims=True)


VAL, TEST = make(120, 1), make(60, 2)


def test_knn_equals_scikit_learn():
    y_val, z_val = VAL
    y, z = TEST
    model = KNeighborsClassifier(10, algorithm="brute").fit(z_val, y_val)
    votes = np.stack([p[:, 1] for p in model.predict_proba(z)], axis=1)
    result = evaluate_embeddings(VAL, TEST)
    assert result["knn_micro_f1"] == pytest.approx(f1_score(y, votes > 0.5, average="micro"))
    assert result["knn_macro_f1"] == pytest.approx(f1_score(y, votes > 0.5, average="macro"))


def pairs(y, z):
    for i in range(len(y)):
        for k in range(len(y)):
            if i != k:
                yield set(np.flatnonzero(y[i])), set(np.flatnonzero(y[k])), float(z[i] @ z[k])


def relation(s, t):
    if s == t:
        return "equal"
    if not s & t:
        return "disjoint"
    return "subset" if t < s else "superset" if t > s else "overlap"


def test_alignment_uniformity_and_similarities_equal_a_plain_loop():
    y, z = TEST
    result = evaluate_embeddings(VAL, TEST)
    found = list(pairs(y, z))
    assert result["alignment"] == pytest.approx(np.mean([2 - 2 * c for s, t, c in found if s & t]), rel=1e-5)
    assert result["uniformity"] == pytest.approx(
        np.log(np.mean([np.exp(-2 * (2 - 2 * c)) for *_, c in found])), rel=1e-5
    )
    for name in ("equal", "disjoint", "subset", "superset", "overlap"):
        own = [c for s, t, c in found if relation(s, t) == name]
        assert result[f"similarity_{name}"] == pytest.approx(np.mean(own), rel=1e-4)


def test_retrieval_equals_a_plain_loop():
    y, z = TEST
    values = []
    for i in range(len(y)):
        others = [k for k in range(len(y)) if k != i]
        order = sorted(others, key=lambda k: -float(np.float32(z[i]) @ np.float32(z[k])))
        gains = [(y[i] & y[k]).sum() / max((y[i] | y[k]).sum(), 1) for k in order]
        if sum(gains):
            values.append(sum(g * np.mean(gains[: r + 1]) for r, g in enumerate(gains)) / sum(gains))
    assert evaluate_embeddings(VAL, TEST)["retrieval_map"] == pytest.approx(np.mean(values), rel=1e-4)


def test_retrieval_with_one_label_each_is_common_average_precision():
    rng = np.random.default_rng(3)
    y = np.eye(4, dtype=int)[rng.integers(0, 4, 50)]
    z = rng.normal(size=(50, 16))
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    expected = []
    for i in range(50):
        others = np.arange(50) != i
        expected.append(average_precision_score((y @ y[i])[others], (z @ z[i])[others]))
    val = np.eye(4, dtype=int)[rng.integers(0, 4, 120)], VAL[1]
    assert evaluate_embeddings(val, (y, z))["retrieval_map"] == pytest.approx(np.mean(expected), rel=1e-4)


def test_every_pair_has_exactly_one_relation():
    y = TEST[0]
    masks = relations(y @ y.T, y.sum(1))
    assert np.array_equal(sum(mask.astype(int) for mask in masks.values()), np.ones((60, 60)))
    assert np.array_equal(masks["subset"], masks["superset"].T)


def test_scale_of_embeddings_plays_no_part():
    scaled = (VAL[0], 7 * VAL[1]), (TEST[0], 0.3 * TEST[1])
    assert evaluate_embeddings(*scaled) == pytest.approx(evaluate_embeddings(VAL, TEST), rel=1e-4)


def test_embeddings_that_are_not_finite_are_refused():
    z = TEST[1].copy()
    z[3, 1] = np.nan
    with pytest.raises(MetricsError, match="row that is not: 3"):
        evaluate_embeddings(VAL, (TEST[0], z))


def test_rows_without_any_label_leave_out_what_is_undefined():
    result = evaluate_embeddings(VAL, (np.zeros((5, 5), int), TEST[1][:5]))
    assert "retrieval_map" not in result
    assert "alignment" not in result
    assert "similarity_equal" in result
