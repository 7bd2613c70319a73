"""Features of a frozen encoder: computed once, stored beside the dataset, shared by all losses and seeds."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

import mlcl

PACKAGE = Path(mlcl.__file__).parent
SOURCES = (
    "encoders/*.py",
    "data/*.py",
    "training/context.py",
    "training/inputs/batches.py",
    "training/seeding.py",
)
"""Modules that features depend on."""
LIBRARIES = ("torch", "torchvision", "transformers", "timm", "peft")
"""Libraries that features depend on."""


def cached_features(
    folder: Path,
    made_of: Mapping[str, Any],
    split: str,
    compute: Callable[[], Iterable[tuple[str, np.ndarray]]],
) -> np.ndarray:
    """Features (N, h) float32 of all rows of a split, memory-mapped.

    Args:
        folder: has a subfolder of features for each `made_of`.
        made_of: what the features depend on, besides the versions of code and libraries; JSON-able, with `encoder`,
            the encoder's name.
        compute: yields (split, features) for every split; called only if the features are not stored yet.
    """
    stored = folder / f"{made_of['encoder']}-{_digest(made_of)}"
    if not stored.is_dir():
        folder.mkdir(exist_ok=True)
        with FileLock(folder / f".{stored.name}.lock"):
            if not stored.is_dir():
                _store(stored, compute())
    features: np.ndarray = np.load(stored / f"{split}.npy", mmap_mode="r")
    return features


def _store(folder: Path, features: Iterable[tuple[str, np.ndarray]]) -> None:
    """Writes beside and renames, so that a folder that exists is complete."""
    work = folder.with_name(f"{folder.name}.tmp")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    for split, values in features:
        np.save(work / f"{split}.npy", values)
    work.rename(folder)


def _digest(made_of: Mapping[str, Any]) -> str:
    versions = {"libraries": [_version(name) for name in LIBRARIES], "sources": _sources(PACKAGE)}
    text = json.dumps({**made_of, **versions}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@cache
def _sources(package: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(file for pattern in SOURCES for file in package.glob(pattern)):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _version(library: str) -> str | None:
    """None if it is not installed."""
    try:
        return version(library)
    except PackageNotFoundError:
        return None
