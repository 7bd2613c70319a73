"""The code that a cell passes through.

From the train command and from the cell's own protocol, encoder and loss, names are followed through mlcl
(`data_prep.definitions`). Where the code branches on a setting, `CONDITIONS` says which part of it a cell with other
settings never enters. So a new encoder, protocol or loss, and a change that a cell does not run, leave it as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import data_prep
import mlcl
from data_prep.definitions import Project, Reached
from mlcl import encoders, losses
from mlcl.errors import ConfigError
from mlcl.training.settings import CellSettings, LossPart

ENTRIES = ("mlcl.training.launch.train", "mlcl.data.open_dataset")
"""What the train command calls for every cell."""

IMPORT_BY_NAME = frozenset({
    "mlcl.encoders.catalog.create",  # the cell's encoder
    "mlcl.losses._registry._module",  # the cell's loss, and the losses that it is made of
    "mlcl.training.protocols.load",  # the cell's protocol
})  # fmt: skip
"""The definitions that import what a setting names; `_entries` says what that is for a cell."""

NO_PART_IN_RESULTS = (
    "mlcl.encoders.flops",
    "mlcl.training.job",
    "mlcl.training.step_timer",
    "mlcl.training.throughput",
)
"""What is measured beside the training and goes into the record's `run` block, and how processes find each other."""

LISTS_OF_NAMES = (
    "mlcl.encoders.catalog._FAMILIES",
    "mlcl.encoders.catalog._SHORTHANDS",
    "mlcl.encoders.torchvision_names",
    "mlcl.training.settings.Protocol",
)
"""Which encoders and protocols there are. What a cell takes from them stands in its settings or is an entry point."""


@dataclass(frozen=True)
class Facts:
    """What decides on the way that a cell takes through the code."""

    settings: CellSettings
    modality: str | None
    """Of the encoder; None without one."""
    stages: tuple[Mapping[str, Any], ...] = field(init=False)
    """The training settings of each stage."""

    def __post_init__(self) -> None:
        training = self.settings.training or {}
        stages = (training, training.get("finetuning") or {})
        object.__setattr__(self, "stages", tuple(stage for stage in stages if stage))

    @property
    def frozen(self) -> bool:
        return self.settings.encoder is not None and bool(self.settings.encoder.settings["freeze"])

    @property
    def augmented(self) -> bool:
        return self.modality == "image" and self.any_stage("augmentation", "basic")

    def any_stage(self, key: str, *neutral: Any) -> bool:
        """Does a stage set the key to anything but these values?"""
        return any(key in stage and stage[key] not in neutral for stage in self.stages)


CONDITIONS: Mapping[str, Callable[[Facts], bool]] = {
    "mlcl.encoders": lambda cell: cell.settings.encoder is not None,
    "mlcl.losses": lambda cell: cell.settings.loss is not None,
    "mlcl.data.texts": lambda cell: cell.modality == "text",
    "mlcl.data.tokenizers": lambda cell: cell.modality == "text",
    "mlcl.data.tokens": lambda cell: cell.modality == "text",
    "mlcl.encoders.adapter": lambda cell: cell.frozen,
    "mlcl.evaluation.knn": lambda cell: (
        cell.settings.knn_evaluation is not None
        or cell.any_stage("selection", "last")
        or cell.any_stage("ema_evaluation", "always")
    ),
    "mlcl.evaluation.linear.Grid": lambda cell: cell.settings.linear_evaluation is not None,
    "mlcl.evaluation.linear.fit": lambda cell: cell.settings.linear_evaluation is not None,
    "mlcl.training.diagnostics.of_grid": lambda cell: "linear" in cell.settings.readouts,
    "mlcl.training.diagnostics.better_weights": lambda cell: cell.any_stage("ema_evaluation", "always"),
    "mlcl.training.feature_cache": lambda cell: cell.frozen,
    "mlcl.training.fit.validation": lambda cell: cell.any_stage("selection", "last"),
    "mlcl.training.fit.validation_map": lambda cell: cell.any_stage("ema_evaluation", "always"),
    "mlcl.training.grad_cache": lambda cell: cell.any_stage("micro_batch_size", None),
    "mlcl.training.inputs.batches.Images": lambda cell: cell.modality == "image",
    "mlcl.training.inputs.batches.Texts": lambda cell: cell.modality == "text",
    "mlcl.training.inputs.batches.Vectors": lambda cell: cell.modality == "vector" or cell.frozen,
    "mlcl.training.inputs.transforms.NAMED": lambda cell: cell.augmented,
    "mlcl.training.inputs.transforms.TRANSFORMS": lambda cell: cell.augmented,
    "mlcl.training.inputs.transforms.build": lambda cell: cell.augmented,
    "mlcl.training.inputs.transforms.mask_features": lambda cell: cell.any_stage("feature_masking", 0),
    "mlcl.training.launch._Workers": lambda cell: cell.settings.compute.processes > 1,
    "mlcl.training.launch._import_loss": lambda cell: cell.settings.compute.processes > 1,
    "mlcl.training.outcome._fit_knn": lambda cell: "knn" in cell.settings.readouts,
    "mlcl.training.outcome._fit_linear": lambda cell: "linear" in cell.settings.readouts,
    "mlcl.training.outcome._own_head": lambda cell: "head" in cell.settings.readouts,
    "mlcl.training.optim.MovingAverage": lambda cell: cell.any_stage("ema_decay", None),
}
"""Module or definition -> whether a cell ever enters it. Tests train cells of all kinds and compare."""


@cache
def installed() -> Project:
    """The source of the packages that are running."""
    return Project({package.__name__: Path(package.__file__ or "").parent for package in (mlcl, data_prep)})


def code_of(settings: CellSettings, project: Project | None = None) -> Reached:
    """The code that a cell passes through, and its digest.

    Raises ConfigError for code that imports by name what cannot be known here.
    """
    encoder = settings.encoder
    facts = Facts(settings, encoders.describe(encoder.name).modality if encoder else None)
    left_out = frozenset(place for place, enters in CONDITIONS.items() if not enters(facts))
    loss_file = _version(settings.loss.file if settings.loss else None)
    return _code(project or installed(), tuple(_entries(settings)), left_out, loss_file)


@cache
def _code(
    project: Project, entries: tuple[str, ...], left_out: frozenset[str], loss_file: tuple[Path, int] | None
) -> Reached:
    if loss_file is not None:
        project = project.with_file(_own_module(loss_file[0]), loss_file[0])
    skipped = {*left_out, *NO_PART_IN_RESULTS, *LISTS_OF_NAMES}
    reached = project.reach(entries, enters=lambda name: not skipped & set(_prefixes(name)))
    if unknown := sorted(set(reached.imports_by_name) - IMPORT_BY_NAME):
        raise ConfigError(
            f"{unknown[0]}: imports a module by a name that is known only when it runs, so that a change of that "
            "module would go unnoticed; import it with an import statement"
        )
    return reached


def changed_definitions(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """What differs between two lists of definitions, in words: changed ones, then new ones, then those gone."""
    changed = sorted(name for name in before.keys() & after.keys() if before[name] != after[name])
    new = [f"{name} (new)" for name in sorted(after.keys() - before.keys())]
    return [*changed, *new, *(f"{name} (gone)" for name in sorted(before.keys() - after.keys()))]


def loss_digest(loss: LossPart) -> str:
    """The digest of the loss's own code."""
    return _code(installed(), tuple(_loss_entries(loss)), frozenset(), _version(loss.file)).digest


def _entries(settings: CellSettings) -> Iterator[str]:
    """Where a cell enters the code, dotted names."""
    yield from ENTRIES
    if settings.compute.processes > 1:
        yield "mlcl.training.launch.train_in_job"
    yield f"mlcl.training.protocols.{settings.protocol}.run"
    if settings.encoder is not None:
        family = encoders.describe(encoders.describe(settings.encoder.name).name)
        yield f"{family.module}.build"
        yield f"{family.settings.__module__}.{family.settings.__qualname__}"
    if settings.loss is not None:
        yield from _loss_entries(settings.loss)


def _loss_entries(loss: LossPart) -> Iterator[str]:
    info = losses.describe(loss.name, file=loss.file)
    module = _own_module(loss.file) if loss.file else f"mlcl.losses.{loss.name}"
    yield f"{module}.{info.class_name}"
    for key in info.parts:
        part = loss.hyperparameters[key]
        name = part if isinstance(part, str) else part["name"]
        yield f"mlcl.losses.{name}.{losses.describe(name).class_name}"


def _version(file: Path | None) -> tuple[Path, int] | None:
    """The file and its time, which keeps a cache honest."""
    return (file, file.stat().st_mtime_ns) if file else None


def _own_module(file: Path) -> str:
    """The name of a loss's module that lies outside of the package."""
    return f"mlcl_external_loss_{file.stem}"


def _prefixes(name: str) -> Iterator[str]:
    parts = name.split(".")
    return (".".join(parts[:count]) for count in range(1, len(parts) + 1))
