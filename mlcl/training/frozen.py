"""A frozen encoder: its features are computed once for a dataset and shared by all losses and seeds."""

from __future__ import annotations

import hashlib
import json
import shutil
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from filelock import FileLock
from torch import nn

import mlcl
from mlcl import encoders
from mlcl.encoders.base import Encoder

if TYPE_CHECKING:
    from mlcl.training.context import Context

PACKAGE = Path(mlcl.__file__).parent
FOLDER = "features"
SOURCES = ("encoders/*.py", "data/*.py", "training/batches.py")
"""What makes a feature of a row, but for the libraries."""
LIBRARIES = ("torch", "torchvision", "transformers", "timm", "peft")


class Adapter(Encoder):
    """Linear(h, h)-ReLU on stored features: what is trained in the encoder's place, alike for all losses.

    Without it a contrastive loss would leave no trace in what is evaluated. `active=False`: the features as they are.
    """

    def __init__(self, feature_dim: int, active: bool) -> None:
        super().__init__()
        self.feature_dim = feature_dim
        layer = nn.Sequential(nn.Linear(feature_dim, feature_dim), nn.ReLU())
        self.layer: nn.Module = layer if active else nn.Identity()

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Stored features (B, h) -> features (B, h)."""
        adapted: torch.Tensor = self.layer(features)
        return adapted


def stored_features(context: Context, split: str) -> np.ndarray:
    """(N, h) float32 of all rows of a split, memory-mapped; computed where nobody did so before."""
    folder = context.dataset.folder / FOLDER / _key(context)
    if not folder.is_dir():
        folder.parent.mkdir(exist_ok=True)
        with FileLock(folder.with_name(f".{folder.name}.lock")):
            if not folder.is_dir():
                _compute(context, folder)
    features: np.ndarray = np.load(folder / f"{split}.npy", mmap_mode="r")
    return features


def _compute(context: Context, folder: Path) -> None:
    work = folder.with_name(f"{folder.name}.tmp")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    encoder = context.raw_encoder()
    for split in ("train", "val", "test"):
        rows = np.arange(len(context.dataset[split]))
        features = context.encode_rows(encoder, context.raw_inputs(split), rows)
        np.save(work / f"{split}.npy", features.cpu().numpy())
    work.rename(folder)


def _key(context: Context) -> str:
    """A digest of all that the features depend on: the encoder, its weights or the seed of these, the device."""
    part, settings = context.encoder_part, context.encoder_settings
    made_of = {
        "encoder": part.name,
        "settings": part.settings,
        "weights": encoders.weights_digest(part.name, part.settings),
        "seed": None if settings.pretrained else context.settings.seed,
        "device": context.device.type,
        "threads": context.settings.compute.threads,
        "channels_last": context.settings.compute.channels_last,
        "libraries": [_version(name) for name in LIBRARIES],
        "sources": _sources(),
    }
    text = json.dumps(made_of, sort_keys=True, default=str)
    return f"{part.name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


@cache
def _sources() -> str:
    digest = hashlib.sha256()
    for file in sorted(file for pattern in SOURCES for file in PACKAGE.glob(pattern)):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _version(library: str) -> str | None:
    """None for one that is not installed."""
    try:
        return version(library)
    except PackageNotFoundError:
        return None
