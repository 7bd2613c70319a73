"""A study that was never run: its outline and cards, for benchmarks of reporting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlcl.digests import sealed
from mlcl.records.files import write_json
from mlcl.records.outline import (
    DatasetOutline,
    EncoderOutline,
    LossOutline,
    Outline,
    OutlineCell,
    write_outline,
)
from mlcl.records.paths import CellId, StudyPaths

ENCODER = "mlp"
PROTOCOL = "contrastive_linear"


@dataclass(frozen=True)
class SyntheticStudy:
    """A grid of datasets, losses, variants and seeds with one encoder."""

    name: str
    datasets: Sequence[str]
    losses: Sequence[str]
    seeds: int
    metrics: Sequence[str]
    variants: Mapping[str, Any] = field(default_factory=lambda: {"base": {}})

    @property
    def paths(self) -> StudyPaths:
        return StudyPaths(self.name)

    def cells(self) -> list[CellId]:
        return [
            CellId(dataset, ENCODER, loss, variant, seed)
            for dataset in self.datasets
            for loss in self.losses
            for variant in self.variants
            for seed in range(self.seeds)
        ]

    def write(self) -> None:
        """Its outline, as planning would write it. A cell's fingerprint is its own name."""
        write_outline(self._outline(), self.paths.outline)

    def _outline(self) -> Outline:
        return Outline(
            study=self.name,
            file=f"config/{self.name}.yaml",
            title="Synthetic",
            description="",
            seeds=list(range(self.seeds)),
            metrics=list(self.metrics),
            split="test",
            datasets={d: DatasetOutline(d, d, "vector", 1.0, {}) for d in self.datasets},
            encoders={ENCODER: EncoderOutline(ENCODER, "vector", {}, {})},
            losses={
                name: LossOutline(name, name, "", "", "", "embeddings", PROTOCOL, {}, {}, name, None)
                for name in self.losses
            },
            baselines=[],
            variants=dict(self.variants),
            training={PROTOCOL: {"selection": "last"}},
            readouts=["linear"],
            readout="linear",
            linear_evaluation={},
            compute={},
            cells=[OutlineCell(cell, str(cell)) for cell in self.cells()],
            skipped=[],
            search=None,
            trials=[],
            metrics_source="",
            reporting_source="",
        )


def write_card(study: SyntheticStudy, dataset: str, labels: int) -> None:
    names = [f"label {i}" for i in range(labels)]
    counts = {name: 1 + 1000 // (1 + i) for i, name in enumerate(names)}
    split = {"examples": 2000, "cardinality": 3.0, "density": 0.1, "empty_rows": 0, "label_counts": counts}
    card = {
        "name": dataset,
        "title": dataset,
        "labels": names,
        "splits": dict.fromkeys(("train", "val", "test"), split),
    }
    write_json(study.paths.card(dataset), sealed(card))
