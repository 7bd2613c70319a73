"""Rows of a prepared dataset as tensors on the device, in the form that encoders take."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mlcl.data import PreparedDataset, Tokens
from mlcl.encoders import InputShape
from mlcl.encoders.base import Batch, TokenBatch

Tensors = tuple[torch.Tensor, ...]
"""A batch as stored; the first tensor is the one that augmentation changes."""
Augment = Callable[[torch.Tensor, torch.Generator], torch.Tensor]


class Inputs(ABC):
    """The inputs of a split: gathered on the host, copied to the device, augmented, and formed for the encoder."""

    @property
    def lengths(self) -> np.ndarray | None:
        """(N,) number of tokens of each text; None for other modalities."""
        return None

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def gather(self, rows: np.ndarray) -> Tensors:
        """These rows as stored, on the host."""

    @abstractmethod
    def form(self, tensors: Tensors) -> Batch:
        """The batch that the encoder takes."""

    def take(self, rows: np.ndarray, device: torch.device) -> Batch:
        """The batch of these rows on the device, not augmented."""
        return self.form(to_device(self.gather(rows), device))


class Images(Inputs):
    """uint8 (N, H, W, C), memory-mapped -> float (B, C, H, W) in [0, 1]."""

    def __init__(self, images: np.ndarray, channels_last: bool = True) -> None:
        self._images = images
        self._format = torch.channels_last if channels_last else torch.contiguous_format

    def __len__(self) -> int:
        return len(self._images)

    def gather(self, rows: np.ndarray) -> Tensors:
        return (torch.from_numpy(self._images[rows]),)

    def form(self, tensors: Tensors) -> torch.Tensor:
        images = tensors[0].permute(0, 3, 1, 2)
        return images.to(torch.float32, memory_format=self._format).div_(255)


class Vectors(Inputs):
    """float32 (N, F), memory-mapped."""

    def __init__(self, vectors: np.ndarray) -> None:
        self._vectors = vectors

    def __len__(self) -> int:
        return len(self._vectors)

    def gather(self, rows: np.ndarray) -> Tensors:
        return (torch.from_numpy(self._vectors[rows]),)

    def form(self, tensors: Tensors) -> torch.Tensor:
        return tensors[0]


class Texts(Inputs):
    """Token ids of all texts, cut at `max_length`, or into up to `max_chunks` chunks of that length."""

    def __init__(self, tokens: Tokens, max_length: int, max_chunks: int) -> None:
        self._tokens = tokens
        self._max_length, self._max_chunks = max_length, max_chunks

    def __len__(self) -> int:
        return len(self._tokens)

    @property
    def lengths(self) -> np.ndarray:
        return np.minimum(self._tokens.lengths, self._max_length * self._max_chunks)

    def gather(self, rows: np.ndarray) -> Tensors:
        count = torch.empty(len(rows), 0)  # carries the number of texts in its shape
        if self._max_chunks == 1:
            ids, mask = self._tokens.padded(rows, self._max_length)
            text: Tensors = ()
        else:
            ids, mask, numbers = self._tokens.chunked(rows, self._max_length, self._max_chunks)
            text = (torch.from_numpy(numbers),)
        mask[:, 0] = True  # a text without tokens is one padding token
        return torch.from_numpy(ids), torch.from_numpy(mask), count, *text

    def form(self, tensors: Tensors) -> TokenBatch:
        ids, mask, count, *text = tensors
        return TokenBatch(ids.long(), mask, text[0] if text else None, len(count))


def to_device(tensors: Tensors, device: torch.device) -> Tensors:
    """Copies to the device; from pinned memory without synchronising."""
    return tuple(tensor.to(device, non_blocking=True) for tensor in tensors)


def open_inputs(dataset: PreparedDataset, split: str, encoder: Any, channels_last: bool = True) -> Inputs:
    """The inputs of a split, as an encoder with these settings (`mlcl.encoders.EncoderSettings`) takes them."""
    match dataset.modality:
        case "image":
            return Images(dataset[split].images, channels_last)
        case "text":
            tokens = dataset[split].tokens(encoder.tokens)
            return Texts(tokens, encoder.max_length, encoder.max_chunks)
        case _:
            return Vectors(dataset[split].vectors)


def input_shape(dataset: PreparedDataset, encoder: Any) -> InputShape:
    train = dataset["train"]
    match dataset.modality:
        case "image":
            height, width, channels = train.images.shape[1:]
            return InputShape(channels=channels, height=height, width=width)
        case "text":
            tokens = train.tokens(encoder.tokens)
            return InputShape(vocab_size=tokens.vocab_size, pad_id=tokens.pad_id)
        case _:
            return InputShape(dimensions=train.vectors.shape[1])


@dataclass(frozen=True)
class TrainingSet:
    """The training rows, with their inputs and labels."""

    inputs: Inputs
    labels: torch.Tensor
    """(N, L) of the whole split, on the device; see `Context.labels`."""
    rows: np.ndarray
    """The row numbers of the subset."""
    ids: Sequence[str] | np.ndarray = ()
    """Of all rows of the split, to name them in messages."""
    augment: Augment | None = None
    """Applied to the first of the gathered tensors, anew for each view."""

    def view(self, gathered: Tensors, generator: torch.Generator) -> Batch:
        """An augmented batch for the encoder, from gathered tensors on the device."""
        if self.augment is not None:
            gathered = (self.augment(gathered[0], generator), *gathered[1:])
        return self.inputs.form(gathered)


def by_length(inputs: Inputs, rows: np.ndarray) -> np.ndarray | None:
    """The order in which to encode these rows: texts from the longest to the shortest; None for others, as they are.

    A batch is padded to its longest text. Among texts of like length there is little padding, and what the longest need
    of memory is known at once.
    """
    lengths = inputs.lengths
    return None if lengths is None else np.argsort(-lengths[rows], kind="stable")


def in_order(rows: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """All rows, batch by batch."""
    for start in range(0, len(rows), batch_size):
        yield rows[start : start + batch_size]
