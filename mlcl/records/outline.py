"""What reporting knows of a study: `outline.json`, which the plan writes, as typed objects."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from mlcl.errors import MlclError
from mlcl.records.paths import CellId, StudyPaths

NO_ENCODER = "none"


@dataclass(frozen=True)
class DatasetOutline:
    name: str
    title: str
    modality: str
    fraction: float
    settings: dict[str, Any]


@dataclass(frozen=True)
class EncoderOutline:
    name: str
    modality: str
    settings: dict[str, Any]
    training: dict[str, Any]


@dataclass(frozen=True)
class LossOutline:
    name: str
    title: str
    paper: str
    equation: str
    summary: str
    inputs: str
    protocol: str | None
    """None where the study skips all its rows."""
    hyperparameters: dict[str, Any]
    training: dict[str, Any]


@dataclass(frozen=True)
class OutlineCell:
    """A cell that the study asks for. `fingerprint` is None where raw data is absent: staleness is unknown."""

    id: CellId
    fingerprint: str | None
    selection: str | None = None
    """The rule that chose its weights; None where nothing is trained."""


@dataclass(frozen=True)
class SkippedRow:
    """All seeds of a row that the study leaves out on purpose."""

    dataset: str
    encoder: str
    loss: str
    variant: str
    reason: str


@dataclass(frozen=True)
class Outline:
    """A study as far as a reader of its results asks for it; everything in the study's own order."""

    study: str
    file: str
    title: str
    description: str
    seeds: list[int]
    metrics: list[str]
    split: str
    datasets: dict[str, DatasetOutline]
    encoders: dict[str, EncoderOutline]
    losses: dict[str, LossOutline]
    baselines: list[str]
    variants: dict[str, dict[str, Any]]
    training: dict[str, dict[str, Any]]
    """protocol -> its settings"""
    evaluation: str
    """Of frozen features: `linear` or `knn`."""
    linear_evaluation: dict[str, Any]
    compute: dict[str, Any]
    cells: list[OutlineCell]
    skipped: list[SkippedRow]

    @property
    def row_names(self) -> list[str]:
        """Losses, then baselines: the order of every table and figure."""
        return [*self.losses, *self.baselines]

    @property
    def encoders_with_none(self) -> list[str]:
        return [*self.encoders, NO_ENCODER]

    def columns(self) -> list[tuple[str, str]]:
        """The (dataset, encoder) pairs of the grid; `none` only for a dataset that has no encoder at all."""
        pairs = {(cell.id.dataset, cell.id.encoder) for cell in self.cells}
        pairs |= {(row.dataset, row.encoder) for row in self.skipped}
        found = []
        for dataset in self.datasets:
            own = [encoder for encoder in self.encoders if (dataset, encoder) in pairs]
            found += [(dataset, encoder) for encoder in own or [NO_ENCODER]]
        return found

    def training_of(self, loss: str, encoder: str) -> dict[str, Any]:
        """How a loss is trained with an encoder: its protocol's settings, then what the two change of them."""
        own = self.losses[loss]
        settings = self.training.get(own.protocol or "", {})
        of_encoder = self.encoders[encoder].training if encoder in self.encoders else {}
        known = {key: value for key, value in of_encoder.items() if key in settings}
        return settings | known | own.training

    def title_of(self, name: str) -> str:
        """The printed name of a loss or baseline: the one that studies and commands know it by."""
        return name.replace("_", " ") if name in self.baselines else name


def read_outline(study: str) -> Outline:
    """Raises MlclError if the study was never planned, or the outline is not readable."""
    path = StudyPaths(study).outline
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return _outline(content)
    except FileNotFoundError:
        raise MlclError(
            f"{path}: is not there; plan the study '{study}' first (python -m mlcl plan)"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise MlclError(f"{path}: is no outline of a study ({error!r}); plan the study again") from None


def _outline(content: dict[str, Any]) -> Outline:
    losses = {name: _loss(name, own) for name, own in content["losses"].items()}
    training = content["training"]
    if not all(isinstance(own, dict) for own in training.values()):  # the same for all protocols
        training = {loss.protocol: training for loss in losses.values() if loss.protocol}
    return Outline(
        study=content["study"],
        file=content["file"],
        title=content["title"],
        description=content["description"],
        seeds=list(content["seeds"]),
        metrics=list(content["table"]["metrics"]),
        split=content["table"]["split"],
        datasets={
            name: DatasetOutline(name, d["title"], d["modality"], d["fraction"], d["settings"])
            for name, d in content["datasets"].items()
        },
        encoders={
            name: EncoderOutline(name, e["modality"], e["settings"], e["training"])
            for name, e in content["encoders"].items()
        },
        losses=losses,
        baselines=list(content["baselines"]),
        variants=dict(content["variants"]),
        training=training,
        evaluation=content.get("evaluation", "linear"),
        linear_evaluation=content["linear_evaluation"],
        compute=content["compute"],
        cells=[
            OutlineCell(CellId.parse(cell["id"]), cell["fingerprint"], cell.get("selection"))
            for cell in content["cells"]
        ],
        skipped=[
            SkippedRow(*(row[key] for key in ("dataset", "encoder", "loss", "variant", "reason")))
            for row in content["skipped"]
        ],
    )


def _loss(name: str, content: dict[str, Any]) -> LossOutline:
    keys = ("title", "paper", "equation", "summary", "inputs", "protocol", "hyperparameters", "training")
    return LossOutline(name, *(content[key] for key in keys))
