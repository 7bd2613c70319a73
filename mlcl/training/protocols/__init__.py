"""How a cell is trained and evaluated: one file each, its stem is the name in `CellSettings.protocol`.

A file holds

- `run(context)`: from a `Context` to an `Outcome`;
- `Settings`: the training settings with the paper's values as defaults; None for what is not trained;
- `TRAINS`: what the losses that it trains are called with ("embeddings", "logits", "features", "both");
- `READS_FEATURES`: is the trained encoder evaluated by linear heads or nearest neighbours on its features?

Nothing here imports torch before `run` is called, since the planner reads the rest.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import get_args

from mlcl.training.settings import Protocol

DEFAULT: Mapping[str, Protocol] = {
    "embeddings": "contrastive_linear",
    "logits": "end_to_end",
    "both": "joint",
    "features": "kmcl",
}
"""What a loss is called with -> the protocol that trains it where the study names no other."""


def names() -> tuple[str, ...]:
    return get_args(Protocol)


def load(name: str) -> ModuleType:
    """The protocol's module. Raises KeyError for a name that is not in `names()`."""
    if name not in names():
        raise KeyError(name)
    return importlib.import_module(f"{__name__}.{name}")
