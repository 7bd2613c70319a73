"""What a dataset's settings alone decide: looked up before, and whether or not, its raw files are there."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from data_prep import registry
from data_prep.settings import validate
from data_prep.source import Modality


@dataclass(frozen=True)
class Checked:
    """Settings that are in order, with defaults filled in, and what follows from them."""

    modality: Modality
    settings: Mapping[str, Any]
    title: str


def check(name: str, given: Mapping[str, Any]) -> Checked:
    """Raises DataError for an unknown dataset or setting (with the closest names), a wrong type or range."""
    entry = registry.find(name)
    settings = validate(entry.source.settings, given, entry.preset, name)
    modality, about = entry.source.modality, entry.source.about
    values = {key: value for key, value in settings.model_dump().items() if key not in entry.preset}
    return Checked(
        modality=modality(settings) if callable(modality) else modality,
        settings=values,
        title=(about(settings) if callable(about) else about).title,
    )
