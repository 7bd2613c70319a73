"""What a protocol works with: the settings of a cell, its data on the device, its encoder and its features."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mlcl import encoders, losses
from mlcl.data import PreparedDataset, subset
from mlcl.encoders.adapter import Adapter
from mlcl.encoders.base import Encoder
from mlcl.training import distributed
from mlcl.training.events import FeatureProgress, TrainingEvent
from mlcl.training.feature_cache import cached_features
from mlcl.training.inputs import batches
from mlcl.training.inputs.batches import Inputs
from mlcl.training.seeding import seed_globally, seed_of
from mlcl.training.settings import CellSettings, EncoderPart, LossPart

SPLITS = ("train", "val", "test")
FEATURES = "features"
"""Folder within a prepared dataset for the features of frozen encoders."""


@dataclass(frozen=True)
class Context:
    """A cell with everything that its protocol needs, built on first use."""

    settings: CellSettings
    dataset: PreparedDataset
    device: torch.device
    report: Callable[[TrainingEvent], None]
    checkpoints: Path | None = None
    """The folder for checkpoints; None saves none."""

    @property
    def train_rows(self) -> np.ndarray:
        return self.rows("train")

    def rows(self, split: str) -> np.ndarray:
        """Row numbers of the split that the cell uses; a function of the dataset and the seed alone."""
        return self._rows[split]

    @cached_property
    def _rows(self) -> dict[str, np.ndarray]:
        settings = self.settings.dataset.subset
        fractions = {"train": settings.fraction, "val": settings.val_fraction}
        seed = seed_of(self.settings.seed, "subset") % 2**32
        return {
            split: subset(self.dataset[split], fractions.get(split, 1.0), settings.sampling, seed)
            for split in SPLITS
        }

    def labels(self, split: str) -> torch.Tensor:
        """All labels (N, L) of a split, on the device: bool; in a dataset with unknown ones int8, and -1 for these."""
        labels = torch.from_numpy(self.dataset[split].dense_labels()).to(self.device)
        return labels if self.dataset.has_unknown_labels else labels.bool()

    def labels_of_rows(self, split: str) -> torch.Tensor:
        """Labels (n, L), as `labels`, of the rows of a split that the cell uses."""
        return self.labels(split)[torch.from_numpy(self.rows(split))]

    @property
    def encoder_part(self) -> EncoderPart:
        if self.settings.encoder is None:
            raise ValueError(f"the protocol {self.settings.protocol} needs an encoder")
        return self.settings.encoder

    @cached_property
    def encoder_settings(self) -> Any:
        """The settings as an instance of the encoder's own settings class."""
        part = self.encoder_part
        return encoders.describe(part.name).settings.model_validate(part.settings)

    @property
    def loss_part(self) -> LossPart:
        if self.settings.loss is None:
            raise ValueError(f"the protocol {self.settings.protocol} needs a loss")
        return self.settings.loss

    @property
    def loss_info(self) -> losses.LossInfo:
        return losses.describe(self.loss_part.name, file=self.loss_part.file)

    def inputs(self, split: str) -> Inputs:
        """The inputs of a split; for a frozen encoder, its stored features."""
        if self.encoder_settings.freeze:
            return batches.Vectors(self.features(split))
        return self.raw_inputs(split)

    def raw_inputs(self, split: str) -> Inputs:
        """The inputs of the encoder itself, also if it is frozen."""
        channels_last = self.settings.compute.channels_last
        return batches.open_inputs(self.dataset, split, self.encoder_settings, channels_last)

    def new_encoder(self, adapter: bool = True) -> Encoder:
        """The encoder of this seed before training.

        For a frozen encoder, an `Adapter` on its stored features; with `adapter=False`, one that changes nothing.
        """
        if self.encoder_settings.freeze:
            width = self.features("train").shape[1]  # before seeding: computing them draws random numbers
            seed_globally(self.settings.seed, "encoder")
            return Adapter(width, adapter, self.encoder_settings.adapter_dim).to(self.device)
        return self.raw_encoder()

    def raw_encoder(self) -> Encoder:
        """The encoder itself, also if it is frozen."""
        part = self.encoder_part
        shape = batches.input_shape(self.dataset, self.encoder_settings)
        seed_globally(self.settings.seed, "encoder")
        encoder = encoders.create(part.name, part.settings, shape).to(self.device)
        if self.settings.compute.channels_last:
            encoder.to(memory_format=torch.channels_last)
        return encoder

    def across_processes(self, loss: nn.Module) -> nn.Module:
        """The loss on the rows of all processes that train this cell."""
        return losses.across_processes(loss) if distributed.world_size() > 1 else loss

    def encode(self, encoder: nn.Module, split: str) -> torch.Tensor:
        """Features (n, D) float32 of the rows of a split that the cell uses."""
        return self.encode_rows(encoder, self.inputs(split), self.rows(split))

    def encode_rows(
        self,
        encoder: nn.Module,
        inputs: Inputs,
        rows: np.ndarray,
        finished: Callable[[int], None] = lambda _: None,
    ) -> torch.Tensor:
        """Features (n, D) float32 of these rows in evaluation mode, in batches as large as the settings allow.

        `finished` is called after each batch with the number of rows that are done.
        """
        at_once = self.settings.compute.evaluation_batch_size
        micro_batch_size = (self.settings.training or {}).get("micro_batch_size")
        batch_size = min(at_once, micro_batch_size or at_once)
        order = batches.by_length(inputs, rows)
        encoder.eval()
        encoded, done = [], 0
        with torch.no_grad():
            for part in batches.in_order(rows if order is None else rows[order], batch_size):
                encoded.append(encoder(inputs.take(part, self.device)).float())
                finished(done := done + len(part))
            features = torch.cat(encoded)
        return features if order is None else features[torch.from_numpy(np.argsort(order)).to(self.device)]

    def features(self, split: str) -> np.ndarray:
        """Features (N, h) float32 of the frozen encoder for all rows of a split, memory-mapped."""
        part, settings, compute = self.encoder_part, self.encoder_settings, self.settings.compute
        made_of = {
            "encoder": part.name,
            "data": self.dataset.content,
            # The layer that is trained on the features changes none of them.
            "settings": {key: value for key, value in part.settings.items() if key != "adapter_dim"},
            "weights": encoders.weights_digest(part.name, part.settings),
            "seed": None if settings.pretrained else self.settings.seed,
            "device": self.device.type,
            "threads": compute.threads,
            "channels_last": compute.channels_last,
        }
        return cached_features(self.dataset.folder / FEATURES, made_of, split, self._frozen_features)

    def _frozen_features(self) -> Iterator[tuple[str, np.ndarray]]:
        encoder = self.raw_encoder()
        for split in SPLITS:
            rows = np.arange(len(self.dataset[split]))
            finished = self._feature_progress(split, len(rows))
            yield split, self.encode_rows(encoder, self.raw_inputs(split), rows, finished).cpu().numpy()

    def _feature_progress(self, split: str, rows: int) -> Callable[[int], None]:
        begun = time.monotonic()

        def finished(done: int) -> None:
            left = (time.monotonic() - begun) / done * (rows - done)
            self.report(FeatureProgress(split, done, rows, left))

        return finished
