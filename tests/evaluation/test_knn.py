"""kNN evaluation: equal to a double loop, however the rows are cut into blocks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mlcl.evaluation import knn
from mlcl.evaluation.metrics import THRESHOLD, MetricsError, evaluate
from mlcl.evaluation.representation import NEIGHBOURS, evaluate_embeddings


def data(rows: int, seed: int, dim: int = 6, labels: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(rows, dim, generator=generator)
    weights = torch.randn(dim, labels, generator=torch.Generator().manual_seed(99))
    return features, (features @ weights > 1).to(torch.uint8)


def by_hand(
    train: torch.Tensor, labels: torch.Tensor, queries: torch.Tensor, k: int, temperature: float | None
) -> list[list[float]]:
    """Row by row, with Python's numbers."""
    result = []
    for query in queries.tolist():
        similarities = []
        for row in train.tolist():
            product = sum(a * b for a, b in zip(query, row, strict=True))
            similarities.append(product / math.hypot(*query) / math.hypot(*row))
        nearest = sorted(range(len(similarities)), key=lambda i: -similarities[i])[:k]
        weights = [1.0 if temperature is None else math.exp(similarities[i] / temperature) for i in nearest]
        votes = [
            sum(w for w, i in zip(weights, nearest, strict=True) if labels[i, label])
            for label in range(labels.shape[1])
        ]
        result.append([vote / sum(weights) for vote in votes])
    return result


@pytest.mark.parametrize("temperature", [None, 0.07, 2.0])
@pytest.mark.parametrize("k", [1, 7, 1000])
def test_probabilities_are_those_of_a_double_loop(k: int, temperature: float | None) -> None:
    (train, labels), (queries, _) = data(60, 0), data(15, 1)
    expected = torch.tensor(by_hand(train, labels, queries, k, temperature))
    found = knn.probabilities(train, labels, queries, k, temperature)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("block", [1, 200, 1000])
def test_blocks_change_nothing(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    (train, labels), (queries, truth) = data(60, 0), data(31, 1)
    whole = knn.probabilities(train, labels, queries, 7, 0.1)
    chosen = knn.fit(train, labels, queries, truth).k
    monkeypatch.setattr(knn, "BLOCK", block)
    torch.testing.assert_close(knn.probabilities(train, labels, queries, 7, 0.1), whole)
    assert knn.fit(train, labels, queries, truth).k == chosen


@pytest.mark.parametrize("temperature", [None, 0.1])
def test_k_is_the_best_on_validation_and_the_smallest_of_equals(temperature: float | None) -> None:
    (train, labels), (val, val_labels) = data(200, 0), data(80, 1)
    ks = (50, 1, 5, 20)
    scores = {
        k: evaluate(val_labels, knn.probabilities(train, labels, val, k, temperature), 0.5)["micro_f1"]
        for k in sorted(ks)
    }
    fitted = knn.fit(train, labels, val, val_labels, ks, temperature)
    assert len(set(scores.values())) > 1
    assert fitted.k == max(scores, key=lambda k: scores[k])
    expected = knn.probabilities(train, labels, val, fitted.k, temperature)
    torch.testing.assert_close(fitted.probabilities(val), expected)
    # Every k predicts nothing: all are equal.
    assert knn.fit(train, torch.zeros_like(labels), val, val_labels, ks, temperature).k == 1


def test_agrees_with_the_metrics_of_representations() -> None:
    (val, val_labels), (test, test_labels) = data(150, 0), data(60, 1)
    found = evaluate_embeddings((val_labels, val), (test_labels, test))
    votes = knn.probabilities(val, val_labels, test, NEIGHBOURS)
    assert found["knn_micro_f1"] == pytest.approx(evaluate(test_labels, votes, THRESHOLD)["micro_f1"])


def test_neighbours_of_the_same_kind_are_found() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = torch.eye(4, 16)
    kinds = torch.randint(4, (400,), generator=generator)
    features = centres[kinds] + 0.1 * torch.randn(400, 16, generator=generator)
    labels = torch.nn.functional.one_hot(kinds, 4)
    fitted = knn.fit(features[:300], labels[:300], features[300:350], labels[300:350])
    assert np.array_equal(fitted.probabilities(features[350:]) > 0.5, labels[350:] > 0)


def test_a_state_can_be_stored_and_read() -> None:
    (train, labels), (queries, truth) = data(60, 0), data(15, 1)
    for temperature in (None, 0.07):
        fitted = knn.fit(train, labels, queries, truth, temperature=temperature)
        again = knn.Neighbours.from_state(fitted.state())
        assert (again.k, again.temperature) == (fitted.k, temperature)
        assert torch.equal(again.probabilities(queries), fitted.probabilities(queries))
    with pytest.raises(MetricsError, match="labels missing"):
        knn.Neighbours.from_state({"features": train, "k": torch.tensor(1)})


def test_rows_without_direction_and_half_precision() -> None:
    train, labels = data(20, 0)
    found = knn.probabilities(train.bfloat16(), labels.bool(), torch.zeros(3, 6), 20)
    torch.testing.assert_close(found, labels.float().mean(0).expand(3, -1))
    assert knn.probabilities(train, labels, train[:0], 5).shape == (0, 4)


def test_bad_input_is_named() -> None:
    train, labels = data(20, 0)
    broken = train.clone()
    broken[3, 1] = math.nan
    for message, arguments in {
        "at least one row": (train[:0], labels[:0], train, 5),
        "not \\(20, 6\\) and \\(19, 4\\)": (train, labels[:19], train, 5),
        "at least one neighbour is needed, not 0": (train, labels, train, 0),
        "first row that is not: 3": (train, labels, broken, 5),
        "\\(M, 6\\) are needed": (train, labels, train[:, :5], 5),
        "temperature must be positive, not 0": (train, labels, train, 5, 0.0),
    }.items():
        with pytest.raises(MetricsError, match=message):
            knn.probabilities(*arguments)
    with pytest.raises(MetricsError, match="ks: at least one"):
        knn.fit(train, labels, train, labels, ())
