"""Every metric lies in its range, also at the extremes."""

from __future__ import annotations

import numpy as np
import pytest

from mlcl.evaluation.metrics import evaluate_splits
from mlcl.evaluation.ranges import is_in_range
from mlcl.evaluation.representation import evaluate_embeddings


@pytest.mark.parametrize("kind", ["random", "perfect", "inverted", "constant"])
def test_every_metric_lies_in_its_range(kind: str) -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random((80, 6)) < 0.4).astype(np.uint8)
    scores = {
        "random": rng.random((80, 6)),
        "perfect": labels.astype(float),
        "inverted": 1.0 - labels,
        "constant": np.full((80, 6), 0.5),
    }[kind]
    split = (labels, scores)
    metrics = evaluate_splits(split, split, labels.sum(0).tolist(), 80)
    embeddings = {"random": rng.normal(size=(80, 3)), "inverted": -(labels @ np.eye(6))}.get(kind, scores)
    found = {
        **metrics["val"],
        **metrics["test"],
        **evaluate_embeddings((labels, embeddings), (labels, embeddings)),
    }
    assert [(name, value) for name, value in found.items() if not is_in_range(name, value)] == []


@pytest.mark.parametrize("value", [1.266, -0.1, float("nan"), float("inf"), None, "0.5", True])
def test_what_no_metric_can_be(value: object) -> None:
    assert not is_in_range("macro_f1_tuned", value)
