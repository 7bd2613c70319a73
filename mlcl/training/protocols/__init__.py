"""How a cell is trained and evaluated: one file each, its stem is the name in `CellSettings.protocol`.

A file holds

- `run(context)`: from a `Context` to an `Outcome`;
- `Settings`: the training settings with the paper's values as defaults; None for baselines that train nothing;
- `LOSS_INPUTS`: the inputs of the losses that it trains ("embeddings", "logits", "features", "both");
- `HAS_HEAD`: whether it trains a linear head together with the encoder, which is then a readout;
- `FINETUNING_RATE`, optional: whether its learning rate is one for pretrained encoders, so that an encoder from random
  weights takes the one of its own declaration;
- `incompatible_with(loss, frozen)`, optional: why it cannot train this loss or a frozen encoder, or None.

Nothing here imports torch before `run` is called, because planning reads the rest.
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
"""Inputs of a loss -> the protocol that trains it unless the study names another."""


def names() -> tuple[str, ...]:
    return get_args(Protocol)


def load(name: str) -> ModuleType:
    """The protocol's module. Raises KeyError for a name that is not in `names()`."""
    if name not in names():
        raise KeyError(name)
    return importlib.import_module(f"{__name__}.{name}")


def has_head(protocol: ModuleType, training: Mapping[str, Any] | None) -> bool:
    """Is a linear head trained together with the encoder? Fine-tuning trains one, too."""
    return bool(protocol.HAS_HEAD) or bool((training or {}).get("finetuning"))


def has_finetuning_rate(protocol: ModuleType) -> bool:
    """Is the protocol's learning rate one for pretrained encoders?"""
    return bool(getattr(protocol, "FINETUNING_RATE", False))


def selection(training: Mapping[str, Any]) -> str:
    """The rule that selects the evaluated weights: the last stage's."""
    rule: str = (training.get("finetuning") or training)["selection"]
    return rule


def incompatibility(protocol: ModuleType, loss: LossInfo, frozen: bool) -> str | None:
    """Why the protocol cannot train the loss with this encoder, frozen or not; None if it can."""
    reason: str | None = (
        protocol.incompatible_with(loss, frozen) if hasattr(protocol, "incompatible_with") else None
    )
    return reason
