"""Which datasets there are: every module in `data_prep/sources`, by its file's name."""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.errors import DataError, closest
from data_prep.source import Settings, Source

FOLDER = Path(__file__).parent / "sources"


@dataclass(frozen=True)
class Entry:
    """A dataset's name, its source, and the settings that the name stands for (`mulan_yeast`: set=yeast)."""

    name: str
    module: str
    source: Source
    preset: dict[str, Any]


def stems() -> list[str]:
    """The names of the source modules; a leading underscore marks shared code."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))


def load(stem: str) -> Source:
    """The declaration in one source module."""
    source = importlib.import_module(f"data_prep.sources.{stem}").SOURCE
    assert isinstance(source, Source)
    return source


def citations(entry: Entry, settings: Settings) -> dict[str, str]:
    """The publications of a dataset, from its module's `CITATIONS`: keys of `mlcl/study/references.bib`, each with the
    part of the dataset that it describes, empty for the whole.

    Where they depend on the settings the module has a function `citations` instead. The user's own data has none.
    """
    module = importlib.import_module(f"data_prep.sources.{entry.module}")
    found: dict[str, str] = (
        module.citations(settings) if hasattr(module, "citations") else getattr(module, "CITATIONS", {})
    )
    return found


def names() -> list[str]:
    """All dataset names, sorted. A family is listed by its members."""
    found: list[str] = []
    for stem in stems():
        members = load(stem).members
        found.extend(f"{stem}_{member}" for member in members) if members else found.append(stem)
    return sorted(found)


def find(name: str) -> Entry:
    """The source of a dataset name; raises DataError with the closest names."""
    for stem in stems():
        if name == stem and not load(stem).members:
            return Entry(name, stem, load(stem), {})
        if name.startswith(f"{stem}_") and load(stem).members:
            return Entry(name, stem, load(stem), {"set": name.removeprefix(f"{stem}_")})
    raise DataError(f"unknown dataset {name!r}: {closest(name, names())}")
