"""Batches that losses meet in practice, the ordinary and the awkward, and one way to call any loss on them."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mlcl import losses

ROOT = Path(__file__).parents[2]
NUM_LABELS, WIDTH = 5, 7


def random_labels(rows: int = 6, density: float = 0.4, seed: int = 0) -> Tensor:
    labels = (torch.rand(rows, NUM_LABELS, generator=torch.Generator().manual_seed(seed)) < density).long()
    labels[torch.arange(rows), torch.arange(rows) % (NUM_LABELS - 1)] = (
        1  # no empty rows, the last label rare
    )
    return labels


def with_rows(rows: dict[int, list[int]]) -> Tensor:
    labels = random_labels()
    for row, values in rows.items():
        labels[row] = torch.tensor(values)
    return labels


LABELS: dict[str, Tensor] = {
    "ordinary": random_labels(),
    "a row without labels": with_rows({2: [0, 0, 0, 0, 0]}),
    "two rows without labels": with_rows({1: [0, 0, 0, 0, 0], 4: [0, 0, 0, 0, 0]}),
    "a row with all labels": with_rows({0: [1, 1, 1, 1, 1]}),
    "an anchor without positives": torch.tensor(
        [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 0, 0, 1], [0, 1, 0, 0, 0]]
    ),
    "no anchor has positives": torch.eye(NUM_LABELS, dtype=torch.long)[:4],
    "one row": random_labels(1),
    "one row without labels": torch.zeros(1, NUM_LABELS, dtype=torch.long),
    "no labels at all": torch.zeros(3, NUM_LABELS, dtype=torch.long),
    "all labels everywhere": torch.ones(3, NUM_LABELS, dtype=torch.long),
    "a label absent from the batch": torch.cat(
        [random_labels()[:, :4], torch.zeros(6, 1, dtype=torch.long)], 1
    ),
    "equal label sets": torch.tensor([[1, 0, 1, 0, 0]]).repeat(4, 1),
}


def build(name: str, file: Path | None = None, **settings: Any) -> Any:
    generator = torch.Generator().manual_seed(11)
    return losses.create(name, NUM_LABELS, WIDTH, file=file, generator=generator, **settings)


def inputs_for(
    name: str, rows: int, file: Path | None = None, dtype: torch.dtype = torch.float64
) -> dict[str, Tensor]:
    """Leaves by name, in the order in which the loss is called with them."""
    widths = {"embeddings": WIDTH, "logits": NUM_LABELS, "features": WIDTH}
    kind = losses.describe(name, file).inputs
    wanted = ("embeddings", "logits") if kind == "both" else (kind,)
    generator = torch.Generator().manual_seed(3)
    return {
        key: torch.randn(rows, widths[key], generator=generator).to(dtype).requires_grad_() for key in wanted
    }


def takes_references(name: str, file: Path | None = None) -> bool:
    return losses.describe(name, file).inputs in ("embeddings", "both")


def gradients(value: Tensor, loss: Any, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Gradients of every input and parameter, zeros where the value does not depend on it."""
    leaves = {**inputs, **dict(loss.named_parameters())}
    found = torch.autograd.grad(value, list(leaves.values()), allow_unused=True)
    return {
        key: torch.zeros_like(leaf) if gradient is None else gradient
        for (key, leaf), gradient in zip(leaves.items(), found, strict=True)
    }
