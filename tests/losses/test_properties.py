"""Properties that every loss has for any batch: found counterexamples are shrunk by hypothesis."""

from typing import Any

import pytest
import torch
from cases import build, gradients, inputs_for, takes_references
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mlcl import losses

NUM_LABELS = 5
NAMES = losses.names()
CONTRASTIVE = [name for name in NAMES if losses.describe(name).inputs == "embeddings"]


@st.composite
def label_matrices(draw: st.DrawFn, min_rows: int = 1) -> Tensor:
    row = st.lists(st.integers(0, 1), min_size=NUM_LABELS, max_size=NUM_LABELS)
    return torch.tensor(draw(st.lists(row, min_size=min_rows, max_size=7)))


def evaluate(name: str, inputs: dict[str, Tensor], labels: Tensor) -> tuple[Any, Tensor, dict[str, Tensor]]:
    loss = build(name).double()
    value = loss(*inputs.values(), labels)
    return loss, value.detach(), gradients(value, loss, inputs)


def leaves(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.detach().clone().requires_grad_() for key, value in inputs.items()}


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=15, deadline=None, derandomize=True)
@given(labels=label_matrices(), data=st.data())
def test_the_order_of_the_batch_does_not_matter(name: str, labels: Tensor, data: st.DataObject) -> None:
    order = torch.tensor(data.draw(st.permutations(range(len(labels)))))
    inputs = inputs_for(name, len(labels))
    _, value, gradient = evaluate(name, inputs, labels)
    _, permuted_value, permuted = evaluate(
        name, leaves({k: v[order] for k, v in inputs.items()}), labels[order]
    )
    torch.testing.assert_close(permuted_value, value)
    for key in inputs:
        torch.testing.assert_close(permuted[key], gradient[key][order], rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=15, deadline=None, derandomize=True)
@given(labels=label_matrices(), order=st.permutations(range(NUM_LABELS)))
def test_the_names_of_the_labels_do_not_matter(name: str, labels: Tensor, order: list[int]) -> None:
    """Renumbered labels, with their logits, prototypes and heads, give the same value."""
    permutation = torch.tensor(order)
    inputs = inputs_for(name, len(labels))
    loss, value, _ = evaluate(name, inputs, labels)
    renamed = {k: v[:, permutation] if k == "logits" else v for k, v in inputs.items()}
    with torch.no_grad():
        for parameter in loss.parameters():
            assert len(parameter) == NUM_LABELS
            parameter.copy_(parameter[permutation].clone())
        torch.testing.assert_close(loss(*renamed.values(), labels[:, permutation]), value)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=15, deadline=None, derandomize=True)
@given(labels=label_matrices(min_rows=2))
def test_duplicated_rows_are_treated_alike(name: str, labels: Tensor) -> None:
    """The first row once more: finite, and both copies receive the same gradient."""
    inputs = inputs_for(name, len(labels))
    doubled = leaves({key: torch.cat([value, value[:1]]) for key, value in inputs.items()})
    _, value, gradient = evaluate(name, doubled, torch.cat([labels, labels[:1]]))
    assert torch.isfinite(value)
    for key in inputs:
        torch.testing.assert_close(gradient[key][0], gradient[key][-1], rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("name", [n for n in NAMES if takes_references(n)])
@settings(max_examples=10, deadline=None, derandomize=True)
@given(labels=label_matrices(), exponent=st.integers(-6, 6))
def test_the_length_of_embeddings_does_not_matter(name: str, labels: Tensor, exponent: int) -> None:
    scale = 10.0**exponent
    inputs = inputs_for(name, len(labels))
    scaled = leaves({k: v * scale if k == "embeddings" else v for k, v in inputs.items()})
    _, value, gradient = evaluate(name, inputs, labels)
    _, scaled_value, scaled_gradient = evaluate(name, scaled, labels)
    torch.testing.assert_close(scaled_value, value)
    torch.testing.assert_close(
        scaled_gradient["embeddings"] * scale, gradient["embeddings"], rtol=1e-7, atol=1e-10
    )


@pytest.mark.parametrize("name", CONTRASTIVE)
@settings(max_examples=10, deadline=None, derandomize=True)
@given(labels=label_matrices(), tile_elements=st.integers(1, 40))
def test_the_size_of_tiles_does_not_matter(name: str, labels: Tensor, tile_elements: int) -> None:
    inputs = inputs_for(name, len(labels))
    _, value, gradient = evaluate(name, inputs, labels)
    loss = build(name).double()
    loss.tile_elements = tile_elements
    tiled_value = loss(*inputs.values(), labels)
    torch.testing.assert_close(tiled_value.detach(), value)
    tiled = gradients(tiled_value, loss, inputs)
    for key in gradient:
        torch.testing.assert_close(tiled[key], gradient[key], rtol=1e-7, atol=1e-10)
