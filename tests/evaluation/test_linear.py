"""Linear evaluation: the stack of heads equals heads trained one at a time with torch's own AdamW."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from mlcl.evaluation import linear


def data(rows: int = 300, dim: int = 12, labels: int = 5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(rows, dim, generator=generator)
    weights = torch.randn(dim, labels, generator=torch.Generator().manual_seed(99))
    return features, (features @ weights > 1).to(torch.uint8)


def one_at_a_time(features: torch.Tensor, labels: torch.Tensor, grid: linear.Grid, seed: int) -> torch.Tensor:
    """(combinations, heads, D + 1, L): each head alone, same start and same batches, by torch.optim."""
    generator = torch.Generator().manual_seed(seed)
    dim, num_labels = features.shape[1], labels.shape[1]
    start = torch.rand(dim + 1, 1, grid.heads, num_labels, generator=generator) * 2 - 1
    start = (start[:, 0] / math.sqrt(dim)).to(features)
    orders = [
        torch.randperm(len(features), generator=generator).split(grid.batch_size) for _ in range(grid.epochs)
    ]
    batches = [rows for order in orders for rows in order]
    trained = []
    for rate, decay in grid.combinations:
        for head in range(grid.heads):
            weight = start[:-1, head].clone().requires_grad_()
            bias = start[-1, head].clone().requires_grad_()
            groups = [{"params": [weight], "weight_decay": decay}, {"params": [bias], "weight_decay": 0.0}]
            optimiser = torch.optim.AdamW(groups, lr=rate)
            for step, rows in enumerate(batches):
                optimiser.param_groups[0]["lr"] = optimiser.param_groups[1]["lr"] = rate * (
                    1 - step / len(batches)
                )
                optimiser.zero_grad()
                logits = features[rows] @ weight + bias
                F.binary_cross_entropy_with_logits(logits, labels[rows].to(logits.dtype)).backward()
                optimiser.step()
            trained.append(torch.cat([weight.detach(), bias.detach()[None]]))
    return torch.stack(trained).view(len(grid.combinations), grid.heads, dim + 1, num_labels)


def f1(predicted: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    hits = (predicted & truth).sum(0)
    return 2 * hits / (predicted.sum(0) + truth.sum(0)).clamp(min=1)


def test_the_stack_equals_single_heads_with_torchs_adamw() -> None:
    features, labels = (tensor.double() for tensor in data())
    val_features, val_labels = (tensor.double() for tensor in data(100, seed=1))
    grid = linear.Grid(learning_rates=(0.1, 0.01), weight_decays=(0.1, 0.0), heads=2, epochs=3, batch_size=64)
    heads = linear.fit(features, labels, val_features, val_labels, grid, torch.Generator().manual_seed(5))

    single = one_at_a_time(features, labels, grid, seed=5)
    logits = torch.einsum("nd,chdl->chnl", F.pad(val_features, (0, 1), value=1.0), single)
    for head in range(grid.heads):
        scores = torch.stack(
            [f1(logits[c, head] > 0, val_labels.bool()) for c in range(len(grid.combinations))]
        )
        assert torch.equal(heads.chosen[head], scores.argmax(0))
        expected = torch.stack([single[c, head, :, i] for i, c in enumerate(scores.argmax(0))], dim=1)
        torch.testing.assert_close(heads.weights[head], expected[:-1], rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(heads.biases[head], expected[-1], rtol=1e-6, atol=1e-8)


def test_probabilities_are_the_mean_over_heads() -> None:
    features, labels = data()
    grid = linear.Grid((0.1,), (0.01,), heads=3, epochs=2)
    heads = linear.fit(features, labels, features, labels, grid, torch.Generator().manual_seed(0))
    each = [torch.sigmoid(features @ heads.weights[h] + heads.biases[h]) for h in range(3)]
    torch.testing.assert_close(heads.probabilities(features), torch.stack(each).mean(0))


@pytest.mark.parametrize("rows", [1, 7, 300])
def test_any_number_of_rows_is_trained_on(rows: int) -> None:
    features, labels = data(rows)
    grid = linear.Grid((1.0, 0.1), (1.0, 1e-4), heads=1, epochs=5)
    heads = linear.fit(features, labels, features, labels, grid, torch.Generator().manual_seed(0))
    assert heads.probabilities(features).isfinite().all()


def test_labels_that_can_be_learned_are_learned() -> None:
    (features, labels), (val_features, val_labels) = data(2000), data(400, seed=1)
    heads = linear.fit(
        features, labels, val_features, val_labels, linear.Grid(heads=1), torch.Generator().manual_seed(0)
    )
    assert f1(heads.probabilities(val_features) > 0.5, val_labels.bool()).min() > 0.9
