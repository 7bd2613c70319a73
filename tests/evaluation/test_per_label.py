"""Single labels: their means are the metrics of the study, and a row of the confusion accounts for every positive."""

from __future__ import annotations

import numpy as np
import pytest

from mlcl.evaluation.metrics import average_precisions, best_thresholds, evaluate_splits
from mlcl.evaluation.per_label import confusion_of_labels, decisions_by_label


@pytest.fixture
def split() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.random((200, 7)) < 0.25
    labels[:, 3] = False  # a label without a positive
    scores = np.clip(0.3 + 0.2 * labels + rng.normal(0, 0.2, labels.shape), 0, 1)
    return labels, scores


def test_means_over_labels_with_a_positive_are_the_metrics(split):
    labels, scores = split
    metrics = evaluate_splits(split, split)["test"]
    for ending, threshold in (("", 0.5), ("_tuned", best_thresholds(labels, scores))):
        precision, recall, f1 = decisions_by_label(labels, scores > threshold)
        assert np.isnan([precision[3], recall[3], f1[3]]).all()
        assert np.nanmean(precision) == pytest.approx(metrics[f"cp{ending}"])
        assert np.nanmean(recall) == pytest.approx(metrics[f"cr{ending}"])
        assert np.nanmean(f1) == pytest.approx(metrics[f"macro_f1{ending}"])
    assert np.nanmean(average_precisions(labels, scores)) == pytest.approx(metrics["map"])
    assert np.isnan(average_precisions(labels, scores)[3])


def test_a_row_of_the_confusion_sums_to_the_positives_of_its_label(split):
    labels, scores = split
    confusion = confusion_of_labels(labels, scores > 0.5)
    np.testing.assert_allclose(confusion.sum(axis=1), labels.sum(axis=0))
    np.testing.assert_array_equal(np.diag(confusion), (labels & (scores > 0.5)).sum(axis=0))


def test_a_missed_label_is_shared_among_the_wrong_ones_and_found_ones_are_no_confusion():
    rows = {  # true, predicted
        "missed, two wrong": ("1000", "0110"),
        "missed, none wrong": ("1000", "0000"),
        "found, one wrong": ("1000", "1001"),
        "one found, one missed, one wrong": ("1100", "1010"),
    }
    labels, predicted = (
        np.array([[int(c) for c in row[k]] for row in rows.values()], dtype=bool) for k in (0, 1)
    )
    expected = [[2, 0.5, 0.5, 0, 1], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]]
    np.testing.assert_allclose(confusion_of_labels(labels, predicted), expected)
