"""How a cell is trained and evaluated: one file each, its stem is the name in `CellSettings.protocol`.

A file holds

- `run(context)`: from a `Context` to an `Outcome`;
- `Settings`: the training settings with the paper's values as defaults; None for what is not trained;
- `TRAINS`: what the losses that it trains are called with ("embeddings", "logits", "features", "both");
- `READS_FEATURES`: is the trained encoder evaluated by linear heads or nearest neighbours on its features?
- `refuses(loss, frozen)`, if there is something that it cannot train: why, or None.

Nothing here imports torch before `run` is called, since the planner reads the rest.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any, get_args

from mlcl.losses import LossInfo
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


def reads_features(protocol: ModuleType, training: Mapping[str, Any] | None) -> bool:
    """Are linear heads or nearest neighbours used? Not after a stage of fine-tuning, which has a head of its own."""
    return bool(protocol.READS_FEATURES) and not (training or {}).get("finetuning")


def selection(training: Mapping[str, Any]) -> str:
    """The rule that chose the weights that are evaluated: the last stage's."""
    rule: str = (training.get("finetuning") or training)["selection"]
    return rule


def refusal(protocol: ModuleType, loss: LossInfo, frozen: bool) -> str | None:
    """Why the protocol cannot train the loss with this encoder, frozen or not; None where it can."""
    reason: str | None = protocol.refuses(loss, frozen) if hasattr(protocol, "refuses") else None
    return reason
