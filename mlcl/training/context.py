"""What a protocol works with, and what it hands back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import nn

from mlcl import encoders
from mlcl.data import PreparedDataset, subset
from mlcl.encoders.base import Encoder
from mlcl.training.batches import Inputs, input_shape, open_inputs
from mlcl.training.loop import EpochReport, Loop, TrainingSet, encode
from mlcl.training.seeding import generator, seed_globally, seed_of
from mlcl.training.settings import CellSettings, EncoderPart, TrainingSettings

EVALUATED = ("val", "test")


@dataclass(frozen=True)
class Outcome:
    """What a protocol hands back: probabilities and, where there is an encoder, features of each evaluated split."""

    scores: dict[str, np.ndarray]
    """split -> (N, L) float32 probabilities"""
    features: dict[str, np.ndarray] = field(default_factory=dict)
    """split -> (N, D) float32"""
    curve: list[EpochReport] = field(default_factory=list)
    examples: dict[str, int] = field(default_factory=dict)
    """split -> number of rows that were used; filled in by `run.train`"""


@dataclass(frozen=True)
class Context:
    """The settings of a cell, its data on the device, and the parts that protocols are made of."""

    settings: CellSettings
    dataset: PreparedDataset
    device: torch.device
    report: Callable[[EpochReport], None]

    @cached_property
    def train_rows(self) -> np.ndarray:
        """The training rows of the cell's subset; a function of the dataset and the seed alone."""
        chosen = self.settings.dataset.subset
        split = self.dataset["train"]
        if chosen.fraction == 1:
            return np.arange(len(split))
        return subset(split, chosen.fraction, chosen.sampling, seed_of(self.settings.seed, "subset") % 2**32)

    def rows(self, split: str) -> np.ndarray:
        return self.train_rows if split == "train" else np.arange(len(self.dataset[split]))

    def labels(self, split: str) -> torch.Tensor:
        """All labels (N, L) uint8 of a split, on the device."""
        return torch.from_numpy(self.dataset[split].dense_labels()).to(self.device)

    @property
    def encoder_part(self) -> EncoderPart:
        if self.settings.encoder is None:
            raise ValueError(f"the protocol {self.settings.protocol} needs an encoder")
        return self.settings.encoder

    @property
    def training(self) -> TrainingSettings:
        if self.settings.training is None:
            raise ValueError(f"the protocol {self.settings.protocol} needs training settings")
        return self.settings.training

    def inputs(self, split: str) -> Inputs:
        return open_inputs(self.dataset, split, self.encoder_part.settings)

    def new_encoder(self) -> Encoder:
        """The encoder of this seed as it is before training."""
        part = self.encoder_part
        seed_globally(self.settings.seed, "encoder")
        shape = input_shape(self.dataset, part.settings)
        return encoders.create(part.name, part.settings, shape).to(self.device)

    def training_set(self) -> TrainingSet:
        return TrainingSet(self.inputs("train"), self.labels("train"), self.train_rows)

    def new_loop(self) -> Loop:
        """The loop of this seed; what follows draws its dropout from here on."""
        seed_globally(self.settings.seed, "dropout")
        return Loop(self.training, self.device, generator(self.settings.seed, "order"), self.report)

    def encode(self, encoder: nn.Module, split: str) -> torch.Tensor:
        """Features (n, D) of the rows of a split that the cell uses."""
        return encode(encoder, self.inputs(split), self.rows(split), self.device)
