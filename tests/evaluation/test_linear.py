"""Linear evaluation: the stack of heads equals heads trained one at a time with torch's own AdamW."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from mlcl.evaluation import linear
from mlcl.evaluation.metrics import MetricsError


def data(rows: int = 300, dim: int = 12, labels: int = 5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(rows, dim, generator=generator)
    weights = torch.randn(dim, labels, generator=torch.Generator().manual_seed(99))
    return features, (features @ weights > 1).to(torch.uint8)


def one_at_a_time(features: torch.Tensor, labels: torch.Tensor, grid: linear.Grid, seed: int) -> torch.Tensor:
    """(combinations, heads, D + 1, L): each head alone, same start and same batches, by torch.optim."""
    generator = torch.Generator().manual_seed(seed)
    dim, num_labels = features.shape[1], labels.shape[1]
    start = torch.rand(grid.heads, dim + 1, num_labels, generator=generator) * 2 - 1
    start = (start / math.sqrt(dim)).to(features)
    epochs = [
        [torch.randperm(len(features), generator=generator) for _ in range(grid.heads)]
        for _ in range(grid.epochs)
    ]
    trained = []
    for rate, decay in grid.combinations:
        for head in range(grid.heads):
            batches = [rows for epoch in epochs for rows in epoch[head].split(grid.batch_size)]
            weight = start[head, :-1].clone().requires_grad_()
            bias = start[head, -1].clone().requires_grad_()
            groups = [{"params": [weight], "weight_decay": decay}, {"params": [bias], "weight_decay": 0.0}]
            optimizer = torch.optim.AdamW(groups, lr=rate)
            for step, rows in enumerate(batches):
                optimizer.param_groups[0]["lr"] = optimizer.param_groups[1]["lr"] = rate * (
                    1 - step / len(batches)
                )
                optimizer.zero_grad()
                logits = features[rows] @ weight + bias
                F.binary_cross_entropy_with_logits(logits, labels[rows].to(logits.dtype)).backward()
                optimizer.step()
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


def test_heads_side_by_side_equal_heads_one_after_the_other() -> None:
    """As a GPU trains them, and as a CPU does; so does a last group that is smaller than the others."""
    features, labels = (tensor.double() for tensor in data())
    val_features, val_labels = (tensor.double() for tensor in data(100, seed=1))
    for rate, decay in [(0.1, 0.1), (0.1, 0.0), (0.01, 0.1), (0.01, 0.0)]:
        grid = linear.Grid((rate,), (decay,), heads=3, epochs=2, batch_size=64)
        one, two, three, default = (
            linear.fit(
                features,
                labels,
                val_features,
                val_labels,
                grid,
                torch.Generator().manual_seed(7),
                heads_at_once=heads_at_once,
            )
            for heads_at_once in (1, 2, 3, None)
        )
        for several in (two, three, default):
            torch.testing.assert_close(several.weights, one.weights, rtol=1e-9, atol=1e-12)
            torch.testing.assert_close(several.biases, one.biases, rtol=1e-9, atol=1e-12)
        assert not torch.allclose(one.weights[0], one.weights[1])


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


def test_a_head_in_single_precision_equals_torchs_adamw() -> None:
    features, labels = data(500, dim=64, labels=9)
    grid = linear.Grid((0.1,), (0.01,), heads=1, epochs=10, batch_size=64)
    heads = linear.fit(features, labels, features, labels, grid, torch.Generator().manual_seed(3))
    single = one_at_a_time(features, labels, grid, seed=3)[0, 0]
    torch.testing.assert_close(heads.weights[0], single[:-1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(heads.biases[0], single[-1], rtol=1e-4, atol=1e-5)


def test_heads_differ_in_the_order_of_their_rows() -> None:
    features, labels = data()
    features[:, 0] = torch.arange(300)  # so that a row can be told by its features
    batches = []

    class Recorded(linear.HeadStack):
        def step(self, inputs: torch.Tensor, truth: torch.Tensor, **others: Any) -> None:
            batches.append((inputs[0].clone(), truth[0].clone()))
            super().step(inputs, truth, **others)

    grid = linear.Grid((0.1,), (0.01,), heads=2, epochs=2, batch_size=16)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linear, "HeadStack", Recorded)
        linear.fit(features, labels, features, labels, grid, torch.Generator().manual_seed(0))
    assert [len(inputs) for inputs, _ in batches] == ([16] * 18 + [12]) * 4
    seen = [
        torch.cat([inputs[:, 0] for inputs, _ in batches[start : start + 19]]) for start in range(0, 76, 19)
    ]
    for order in seen:
        assert torch.equal(order.sort().values, torch.arange(300.0))
    assert len({tuple(order.tolist()) for order in seen}) == 4
    for inputs, truth in batches:
        assert torch.equal(truth, labels[inputs[:, 0].long()].T.to(truth.dtype))


def test_a_label_without_positives_is_not_predicted() -> None:
    features, labels = data(400)
    labels[:, 2] = 0
    heads = linear.fit(
        features,
        labels,
        features,
        labels,
        linear.Grid(heads=2, epochs=10),
        torch.Generator().manual_seed(0),
    )
    probabilities = heads.probabilities(features)
    assert probabilities.isfinite().all()
    assert probabilities[:, 2].max() < 0.5
    assert torch.equal(heads.chosen[:, 2], torch.zeros(2, dtype=torch.int64))  # all are equal: the first


def test_constant_features_give_the_frequencies() -> None:
    labels = (torch.arange(400)[:, None] % 4 < torch.tensor([1, 2, 3])).to(torch.uint8)
    features = torch.ones(400, 8)
    grid = linear.Grid((0.1,), (1e-4,), heads=2)
    heads = linear.fit(features, labels, features, labels, grid, torch.Generator().manual_seed(0))
    expected = torch.tensor([0.25, 0.5, 0.75]).expand(400, -1)
    torch.testing.assert_close(heads.probabilities(features), expected, rtol=0, atol=0.05)


def test_one_validation_row_is_enough() -> None:
    features, labels = data(50)
    row = int(labels.sum(1).argmax())
    heads = linear.fit(
        features,
        labels,
        features[row : row + 1],
        labels[row : row + 1],
        linear.Grid(epochs=5),
        torch.Generator().manual_seed(0),
    )
    assert heads.weights.shape == (3, 12, 5)
    assert heads.probabilities(features).isfinite().all()
    assert (heads.chosen[:, labels[row] == 0] == 0).all()  # F1 is 0 for all combinations: the first


@pytest.mark.parametrize("heads", [1, 3])
def test_a_state_can_be_stored_and_read(heads: int, tmp_path: Path) -> None:
    features, labels = data()
    grid = linear.Grid((0.1,), (0.01, 1e-4), heads=heads, epochs=2)
    fitted = linear.fit(features, labels, features, labels, grid, torch.Generator().manual_seed(0))
    save_file(fitted.state(), tmp_path / "heads.safetensors")
    again = linear.LinearHeads.from_state(load_file(tmp_path / "heads.safetensors"))
    assert torch.equal(again.probabilities(features), fitted.probabilities(features))
    assert torch.equal(again.chosen, fitted.chosen)
    with pytest.raises(MetricsError, match="biases, chosen missing"):
        linear.LinearHeads.from_state({"weights": fitted.weights})


def test_the_ensemble_chooses_one_combination_for_each_label_by_the_f1_of_the_mean_probabilities() -> None:
    features, labels = (tensor.double() for tensor in data(40, labels=9))
    val_features, val_labels = (tensor.double() for tensor in data(60, labels=9, seed=1))
    rates, decays = (1.0, 0.03), (1.0, 0.01)

    def fitted(choose: Literal["head", "ensemble"]) -> linear.LinearHeads:
        grid = linear.Grid(rates, decays, heads=3, epochs=3, batch_size=16, choose=choose)
        streams = torch.Generator().manual_seed(5)
        return linear.fit(features, labels, val_features, val_labels, grid, streams)

    heads = fitted("ensemble")
    grid = linear.Grid(rates, decays, heads=3, epochs=3, batch_size=16)
    single = one_at_a_time(features, labels, grid, seed=5)
    logits = torch.einsum("nd,chdl->chnl", F.pad(val_features, (0, 1), value=1.0), single)
    for label in range(labels.shape[1]):
        scores = [
            f1(
                logits[c, :, :, label].sigmoid().mean(0)[:, None] > 0.5, val_labels[:, label, None].bool()
            ).item()
            for c in range(len(grid.combinations))
        ]
        best = scores.index(max(scores))
        assert heads.chosen[:, label].tolist() == [best] * 3
        expected = single[best, :, :, label]  # (heads, D + 1)
        torch.testing.assert_close(heads.weights[:, :, label], expected[:, :-1], rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(heads.biases[:, label], expected[:, -1], rtol=1e-6, atol=1e-8)
    assert not torch.equal(fitted("head").chosen, heads.chosen)
