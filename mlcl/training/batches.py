"""Rows of a prepared dataset as tensors on the device, in the form that the encoders take."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch

from mlcl.data import PreparedDataset, Split
from mlcl.encoders import InputShape
from mlcl.encoders.base import Batch, TokenBatch


class Inputs(Protocol):
    """The inputs of a split."""

    def __len__(self) -> int: ...

    def take(self, rows: np.ndarray, device: torch.device) -> Batch:
        """The batch of these rows."""
        ...


class Images:
    """uint8 (N, H, W, C), memory-mapped -> float (B, C, H, W) in [0, 1]."""

    def __init__(self, split: Split) -> None:
        self._images = split.images

    def __len__(self) -> int:
        return len(self._images)

    def take(self, rows: np.ndarray, device: torch.device) -> torch.Tensor:
        images = torch.from_numpy(self._images[rows]).to(device)
        return images.permute(0, 3, 1, 2).to(torch.float32).div_(255)


class Vectors:
    """float32 (N, F), memory-mapped."""

    def __init__(self, split: Split) -> None:
        self._vectors = split.vectors

    def __len__(self) -> int:
        return len(self._vectors)

    def take(self, rows: np.ndarray, device: torch.device) -> torch.Tensor:
        return torch.from_numpy(self._vectors[rows]).to(device)


class Texts:
    """Token ids of all texts, cut at `max_length`; a text without tokens is one padding token."""

    def __init__(self, split: Split, tokeniser: dict[str, Any], max_length: int) -> None:
        self._tokens, self._max_length = split.tokens(tokeniser), max_length

    def __len__(self) -> int:
        return len(self._tokens)

    def take(self, rows: np.ndarray, device: torch.device) -> TokenBatch:
        ids, present = self._tokens.padded(rows, self._max_length)
        present[:, 0] = True
        return TokenBatch(torch.from_numpy(ids).to(device).long(), torch.from_numpy(present).to(device))


def open_inputs(dataset: PreparedDataset, split: str, encoder: dict[str, Any]) -> Inputs:
    """The inputs of a split, as the encoder with these settings reads them."""
    match dataset.modality:
        case "image":
            return Images(dataset[split])
        case "text":
            return Texts(dataset[split], encoder["tokeniser"], encoder["max_length"])
        case _:
            return Vectors(dataset[split])


def input_shape(dataset: PreparedDataset, encoder: dict[str, Any]) -> InputShape:
    train = dataset["train"]
    match dataset.modality:
        case "image":
            height, width, channels = train.images.shape[1:]
            return InputShape(channels=channels, height=height, width=width)
        case "text":
            return InputShape(vocab_size=train.tokens(encoder["tokeniser"]).vocab_size)
        case _:
            return InputShape(dimensions=train.vectors.shape[1])


def shuffled(rows: np.ndarray, batch_size: int, generator: torch.Generator) -> Iterator[np.ndarray]:
    """One epoch: full batches in random order, the rest dropped; everything in one batch if that is all there is."""
    order = rows[torch.randperm(len(rows), generator=generator).numpy()]
    if len(order) < batch_size:
        yield order
        return
    for start in range(0, len(order) - batch_size + 1, batch_size):
        yield order[start : start + batch_size]


def steps_per_epoch(rows: int, batch_size: int) -> int:
    return max(1, rows // batch_size)


def in_order(rows: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """All rows, batch by batch."""
    for start in range(0, len(rows), batch_size):
        yield rows[start : start + batch_size]
