"""Which training settings mean something to which inputs. No torch here.

A study may mix modalities, so what it says to all of them can be nobody's business in a cell; there it is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

MODALITY = {"augmentation": "image", "feature_masking": "vector", "length_bucketing": "text"}
"""Setting -> the only modality that it is for."""
NEUTRAL = {"augmentation": "basic", "feature_masking": 0, "length_bucketing": False}
"""The value that leaves things as they are."""


def foreign(training: Mapping[str, Any], modality: str) -> list[str]:
    """The settings that are for other modalities than this one."""
    return sorted({key for key, _ in _pairs(training) if MODALITY[key] != modality})


def asked_for(training: Mapping[str, Any]) -> list[str]:
    """The settings for one modality only that ask for something."""
    return sorted({key for key, value in _pairs(training) if value != NEUTRAL[key]})


def used(training: Mapping[str, Any], modality: str, frozen: bool) -> dict[str, Any]:
    """The settings without those that inputs of this modality, or stored features of them, have no use for."""
    idle = {key for key in MODALITY if frozen or MODALITY[key] != modality}
    kept = {key: value for key, value in training.items() if key not in idle}
    if kept.get("finetuning"):
        kept["finetuning"] = used(kept["finetuning"], modality, frozen)
    return kept


def _pairs(training: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Settings for one modality only, of both stages where there are two."""
    yield from ((key, value) for key, value in training.items() if key in MODALITY)
    second = training.get("finetuning")
    if isinstance(second, Mapping):
        yield from _pairs(second)
