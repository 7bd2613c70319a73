"""Plans a dataset: checks its settings, finds its raw files, and computes its fingerprint without preparing it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from data_prep import registry
from data_prep.errors import DataError
from data_prep.fingerprint import fingerprint
from data_prep.rawfiles import Found, judge, locate
from data_prep.source import About, Modality, Settings, Source, validate


@dataclass(frozen=True)
class Checked:
    """Valid settings with defaults filled in, and what follows from them alone."""

    modality: Modality
    settings: Mapping[str, Any]
    title: str


@dataclass(frozen=True)
class Recipe:
    """What will be prepared.

    Attributes:
        source: the dataset's name.
        settings: all of them, defaults filled in.
        fingerprint: sha256 (hex); equal fingerprints mean equal prepared datasets.
        title: for tables and cards.
        accept_local: whether raw files that are not the published ones may be used.
    """

    source: str
    modality: Modality
    settings: Mapping[str, Any]
    fingerprint: str
    title: str
    accept_local: bool = field(default=False, compare=False)


@dataclass(frozen=True)
class Plan:
    """A recipe with what it takes to carry it out."""

    recipe: Recipe
    source: Source
    settings: Settings
    about: About
    versions: Mapping[str, str]
    raw: tuple[Found, ...]
    folder: Path
    """The dataset's folder in the data root."""


def check(name: str, given: Mapping[str, Any]) -> Checked:
    """Checks a dataset's settings; its raw files need not be there.

    Raises DataError for an unknown dataset or setting, a wrong type, or a value out of range.
    """
    entry, settings, about = _configured(name, given)
    is_untitled = getattr(settings, "title", None) == ""
    return Checked(_modality(entry, settings), _chosen(entry, settings), "" if is_untitled else about.title)


def plan(source: str, settings: Mapping[str, Any], data_root: Path, accept_local: bool) -> Recipe:
    """The recipe of a dataset. Quick: reads no raw content that it has read before, prepares nothing.

    Raises:
        DataError: unknown dataset or setting (with the closest valid names), a wrong type or range, raw files
            that are missing and may not be downloaded, or that are not the published ones.
    """
    return make_plan(source, settings, data_root, accept_local).recipe


def make_plan(name: str, given: Mapping[str, Any], data_root: Path, accept_local: bool) -> Plan:
    """`plan`, with the objects behind the recipe."""
    entry, settings, about = _configured(name, given)
    modality = _modality(
        entry, settings
    )  # settings that contradict each other, before files that are missing
    folder = _folder(entry, settings, data_root)
    raw = locate(name, entry.source.files(settings), folder, about, accept_local)
    versions = {package: _version(package, name) for package in entry.source.packages}
    recipe = Recipe(
        source=name,
        modality=modality,
        settings=_chosen(entry, settings),
        fingerprint=fingerprint(
            entry.module,
            settings.model_dump(exclude={"title"}),  # what a dataset is called does not change it
            versions,
            {item.file.path: item.identity for item in raw},
        ),
        title=about.title,
        accept_local=accept_local,
    )
    return Plan(recipe, entry.source, settings, about, versions, tuple(raw), folder)


def describe(name: str, data_root: Path) -> tuple[str, About | None]:
    """A dataset's state with its default settings, and what is known of it.

    `ready` (raw files are there), `local` (they are not the published ones: needs `accept_local`), `download`
    (can be fetched), `by hand` (to be obtained by hand), `own data` (needs settings that name files).
    """
    try:
        entry, settings, about = _configured(name, {})
    except DataError:
        return "own data", None
    raw_files = [judge(file, _folder(entry, settings, data_root)) for file in entry.source.files(settings)]
    missing = [item.file for item in raw_files if item.state == "absent" and not item.file.optional]
    if missing:
        return ("download" if all(file.urls for file in missing) else "by hand"), about
    return ("local" if any(item.state == "local" for item in raw_files) else "ready"), about


def _configured(name: str, given: Mapping[str, Any]) -> tuple[registry.Entry, Settings, About]:
    entry = registry.find(name)
    settings = validate(entry.source.settings, given, entry.preset, name)
    about = entry.source.about(settings) if callable(entry.source.about) else entry.source.about
    return entry, settings, about


def _modality(entry: registry.Entry, settings: Settings) -> Modality:
    modality = entry.source.modality
    return modality(settings) if callable(modality) else modality


def _chosen(entry: registry.Entry, settings: Settings) -> dict[str, Any]:
    """The settings a user may set: those that the dataset's name stands for are left out."""
    return {key: value for key, value in settings.model_dump().items() if key not in entry.preset}


def _folder(entry: registry.Entry, settings: Settings, data_root: Path) -> Path:
    folder = entry.source.folder
    return Path(data_root) / (folder(settings) if folder else entry.name)


def _version(package: str, name: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        raise DataError(
            f"dataset {name} is made from the package {package}, which is not installed"
        ) from None
