"""Linear evaluation as one writes it without further thought: a model, an optimizer and a scheduler for each head.

The same protocol as `mlcl.evaluation.linear`, and nothing shared with it but the grid. Where the batches come from
is an argument: `tensor_batches` indexes tensors in memory; `item_batches` asks a dataset for one item at a time
through a DataLoader with its default collation, as the comprehensive study's released code does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from mlcl.evaluation.linear import Grid

Batches = Iterable[tuple[Tensor, Tensor]]


def tensor_batches(features: Tensor, labels: Tensor, batch_size: int) -> Batches:
    """One epoch of shuffled batches of tensors in memory, the labels already float."""
    order = torch.randperm(len(features), device=features.device)
    for rows in order.split(batch_size):
        yield features[rows], labels[rows]


class _Items(Dataset[tuple[Tensor, Tensor]]):
    def __init__(self, features: Tensor, labels: Tensor) -> None:
        self.features, self.labels = features, labels

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        return self.features[row], self.labels[row]


def item_batches(features: Tensor, labels: Tensor, batch_size: int, workers: int = 0) -> Batches:
    """One epoch of shuffled batches, collated from items (on the CPU, then moved)."""
    items = _Items(features.cpu(), labels.cpu())
    for x, y in DataLoader(items, batch_size, shuffle=True, num_workers=workers):
        yield x.to(features.device), y.to(features.device)


def fit(
    features: Tensor,
    labels: Tensor,
    val_features: Tensor,
    val_labels: Tensor,
    grid: Grid,
    seed: int,
    batches: Callable[[Tensor, Tensor, int], Batches] = tensor_batches,
) -> Callable[[Tensor], Tensor]:
    """Trains every head by itself; features (N, D) -> averaged probabilities (N, L) of the chosen ones."""
    torch.manual_seed(seed)
    finals = []
    labels, val_labels = labels.float(), val_labels.bool()
    for _ in range(grid.heads):
        trained = [
            _train(features, labels, rate, decay, grid, batches)
            for rate in grid.learning_rates
            for decay in grid.weight_decays
        ]
        scores = torch.stack([_f1(head(val_features) > 0, val_labels) for head in trained])
        best = scores.argmax(dim=0).tolist()
        final = nn.Linear(features.shape[1], labels.shape[1], device=features.device)
        final.weight.data = torch.stack([trained[b].weight[label] for label, b in enumerate(best)])
        final.bias.data = torch.stack([trained[b].bias[label] for label, b in enumerate(best)])
        finals.append(final.requires_grad_(False))
    return lambda rows: torch.stack([torch.sigmoid(final(rows)) for final in finals]).mean(dim=0)


def _train(
    features: Tensor,
    labels: Tensor,
    rate: float,
    decay: float,
    grid: Grid,
    batches: Callable[[Tensor, Tensor, int], Batches],
) -> nn.Linear:
    head = nn.Linear(features.shape[1], labels.shape[1], device=features.device)
    criterion = nn.BCEWithLogitsLoss()
    groups: list[dict[str, Any]] = [{"params": [head.weight]}, {"params": [head.bias], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=rate, weight_decay=decay)
    steps = grid.epochs * -(-len(features) // grid.batch_size)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    for _ in range(grid.epochs):
        for x, y in batches(features, labels, grid.batch_size):
            loss = criterion(head(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
    return head.requires_grad_(False)


def _f1(predicted: Tensor, truth: Tensor) -> Tensor:
    hits = (predicted & truth).sum(dim=0)
    return 2 * hits / (predicted.sum(dim=0) + truth.sum(dim=0)).clamp(min=1)
