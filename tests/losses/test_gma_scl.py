"""GMA-SCL: what it learns from training labels, and that its weights follow from it."""

from __future__ import annotations

import math

import brute_force
import pytest
import torch
from cases import LABELS, build, gradients, inputs_for, random_labels

from mlcl import losses
from mlcl.losses._label_similarity import LabelSimilarity, of_training_labels

TRAINING = torch.tensor([[1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [1, 0, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 1, 1, 0]])
"""Counts 3, 2, 2, 2, 0; the first two together twice, 0 and 2 once, 2 and 3 once."""


def test_similarity_is_normalised_pointwise_mutual_information() -> None:
    found = of_training_labels(TRAINING)
    expected = math.log((2 / 5) / (3 / 5 * 2 / 5)) / -math.log(2 / 5)
    assert float(found.matrix[0, 1]) == pytest.approx(expected, rel=1e-6)
    assert float(found.matrix[2, 3]) == pytest.approx(
        math.log((1 / 5) / (2 / 5 * 2 / 5)) / -math.log(1 / 5), rel=1e-5
    )
    assert float(found.matrix[0, 2]) == 0  # less often together than by chance
    assert float(found.matrix[0, 3]) == 0  # never together
    assert torch.equal(found.matrix, found.matrix.T)
    assert torch.equal(found.matrix.diagonal(), torch.ones(5))
    expected_idf = [1 + math.log(6 / (1 + count)) for count in (3, 2, 2, 2, 0)]
    torch.testing.assert_close(found.idf, torch.tensor(expected_idf))


@pytest.mark.parametrize("labels", [torch.ones(4, 3), torch.zeros(4, 3), torch.zeros(0, 3), torch.eye(3)])
def test_similarity_is_finite_where_labels_are_everywhere_or_nowhere(labels: torch.Tensor) -> None:
    found = of_training_labels(labels)
    assert found.matrix.isfinite().all()
    assert ((found.matrix >= 0) & (found.matrix <= 1)).all()
    assert (found.idf > 0).all()


def test_the_nearest_label_of_a_set_is_found_in_parts_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    similarity = LabelSimilarity(torch.rand(5, 5, generator=torch.Generator().manual_seed(0)), torch.ones(5))
    labels = torch.cat([random_labels(20).float(), torch.zeros(1, 5)])
    expected = torch.stack(
        [similarity.matrix[row.bool()].amax(0) if row.any() else torch.zeros(5) for row in labels]
    )
    assert torch.equal(similarity.nearest(labels), expected)
    monkeypatch.setattr("mlcl.losses._label_similarity.ELEMENTS", 16)
    assert torch.equal(similarity.nearest(labels), expected)


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS.keys())
def test_learnt_similarities_give_the_value_of_the_equation(labels: torch.Tensor) -> None:
    loss, inputs = build("gma_scl"), inputs_for("gma_scl", len(labels))
    loss.read_training_labels(TRAINING)
    value = loss(*inputs.values(), labels)
    expected = brute_force.REFERENCES["gma_scl"](loss, inputs, labels)
    torch.testing.assert_close(value, expected)
    for key, gradient in gradients(value, loss, inputs).items():
        torch.testing.assert_close(gradient, gradients(expected, loss, inputs)[key])


def test_labels_that_occur_together_draw_their_items_together() -> None:
    labels = torch.tensor([[1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 0, 1, 0]])
    loss = build("gma_scl")
    before = loss.pair_weights(labels)
    assert before[0, 1] == before[0, 2]
    loss.read_training_labels(TRAINING)
    after = loss.pair_weights(labels)
    assert after[0, 1] > after[0, 2]


def test_what_was_learnt_is_saved_with_the_loss() -> None:
    loss = build("gma_scl")
    loss.read_training_labels(TRAINING)
    other = build("gma_scl")
    other.load_state_dict(loss.state_dict())
    labels = LABELS["ordinary"]
    assert torch.equal(other.pair_weights(labels), loss.pair_weights(labels))


def test_other_losses_learn_nothing_from_training_labels() -> None:
    loss = losses.create("jaccard", 5)
    loss.read_training_labels(TRAINING)
    assert loss.state_dict() == {}
