"""Labels of -1, unknown: losses of one label each leave them out, all others refuse them."""

from __future__ import annotations

import pytest
import torch

from mlcl import losses

LOGITS = torch.randn(6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3
LABELS = torch.randint(-1, 2, (6, 5), generator=torch.Generator().manual_seed(1), dtype=torch.int8)
LABELS[2] = -1
ELEMENTWISE = [name for name in losses.names() if losses.describe(name).elementwise]
OTHERS = [
    name
    for name in losses.names()
    if losses.describe(name).inputs == "logits" and not losses.describe(name).elementwise
]


def create(name: str, **settings: object) -> torch.nn.Module:
    return losses.create(name, num_labels=5, **settings)


def test_which_losses_are_elementwise() -> None:
    assert ELEMENTWISE == ["asl", "bce", "focal", "hill"]


@pytest.mark.parametrize("name", ELEMENTWISE)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_loss_is_that_of_the_known_cells(name: str, reduction: str) -> None:
    has_reduction = "reduction" in losses.describe(name).hyperparameters
    settings = {"reduction": reduction} if has_reduction else {}
    logits = LOGITS.clone().requires_grad_()
    value = create(name, **settings)(logits, LABELS)
    of_one_cell = losses.create(name, num_labels=1)
    terms = [
        of_one_cell(LOGITS[row, label].view(1, 1), LABELS[row, label].view(1, 1).bool())
        for row in range(6)
        for label in range(5)
        if LABELS[row, label] >= 0
    ]
    expected = torch.stack(terms).sum() if has_reduction and reduction == "sum" else torch.stack(terms).mean()
    torch.testing.assert_close(value, expected)
    value.backward()
    gradient = logits.grad
    assert gradient is not None
    assert (gradient[LABELS < 0] == 0).all()
    assert (gradient[LABELS >= 0] != 0).any()


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_known_labels_give_the_same_bits_whatever_their_type(name: str) -> None:
    labels = LABELS > 0
    expected = create(name)(LOGITS.float(), labels)
    for dtype in (torch.int8, torch.float32):
        assert torch.equal(create(name)(LOGITS.float(), labels.to(dtype)), expected)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_a_batch_of_unknown_labels_has_no_loss(name: str) -> None:
    logits = LOGITS.clone().requires_grad_()
    value = create(name)(logits, torch.full_like(LABELS, -1))
    value.backward()
    assert value.item() == 0
    assert (logits.grad == 0).all()


@pytest.mark.parametrize("name", OTHERS)
def test_other_losses_refuse_them(name: str) -> None:
    with pytest.raises(losses.LossInputError, match="labels must be 0 or 1 everywhere, found -1"):
        create(name)(LOGITS, LABELS)


def test_losses_of_embeddings_refuse_them() -> None:
    loss = losses.create("reg", num_labels=5, embedding_dim=4)
    with pytest.raises(losses.LossInputError, match="found -1"):
        loss(torch.randn(6, 4), LABELS)


def test_another_number_is_no_label() -> None:
    with pytest.raises(losses.LossInputError, match="found 2"):
        create("bce")(LOGITS, torch.full_like(LABELS, 2))
