"""Features of a frozen encoder: computed once, stored beside the dataset, shared by all losses and seeds.

Their digests are stored with them; features that are not what was written are computed again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

import mlcl
from mlcl.digests import digests_of, first_defect, is_sealed, sealed

PACKAGE = Path(mlcl.__file__).parent
MANIFEST = "digests.json"
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
        compute: yields (split, features) for every split; called only if the features are not stored yet, or, with
            a warning that names the file, if they are not what was written.
    """
    digest = _digest(made_of)
    stored = folder / f"{made_of['encoder']}-{digest[:12]}"
    if not _is_whole(stored, digest, split):
        folder.mkdir(exist_ok=True)
        with FileLock(folder / f".{stored.name}.lock"):
            if not _is_whole(stored, digest, split):
                _store(stored, digest, compute())
    features: np.ndarray = np.load(stored / f"{split}.npy", mmap_mode="r")
    return features


def _is_whole(folder: Path, digest: str, split: str) -> bool:
    """Are the features of the split there, and what was written? A warning tells if they are there and are not."""
    if not folder.is_dir():
        return False
    file = folder / MANIFEST
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        manifest = None
    if not is_sealed(manifest) or manifest["made_of"] != digest:
        defect: str | None = f"{file}: is not what was written"
    else:
        name = f"{split}.npy"
        defect = first_defect(folder, {name: manifest["files"].get(name, "")})
    if defect is not None:
        warnings.warn(f"{defect}; the features are computed again", stacklevel=2)
    return defect is None


def _store(folder: Path, digest: str, features: Iterable[tuple[str, np.ndarray]]) -> None:
    """Writes beside and renames, so that a folder that exists is complete."""
    work = folder.with_name(f"{folder.name}.tmp")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    for split, values in features:
        np.save(work / f"{split}.npy", values)
    manifest = sealed({"made_of": digest, "files": digests_of(work)})
    (work / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)  # a damaged one
    work.rename(folder)


def _digest(made_of: Mapping[str, Any]) -> str:
    versions = {"libraries": [_version(name) for name in LIBRARIES], "sources": _sources(PACKAGE)}
    text = json.dumps({**made_of, **versions}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


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
