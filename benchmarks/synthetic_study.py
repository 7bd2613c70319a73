"""A study that was never run: its outline and cards, for benchmarks of reporting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlcl.records.files import write_json
from mlcl.records.paths import CellId, StudyPaths

ENCODER = "mlp"


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
        write_json(self.paths.outline, self._outline())

    def _outline(self) -> dict[str, Any]:
        loss = {
            "paper": "", "equation": "", "summary": "", "inputs": "embeddings", "protocol": "contrastive_linear",
            "hyperparameters": {}, "training": {},
        }  # fmt: skip
        return {
            "study": self.name,
            "file": f"config/{self.name}.yaml",
            "title": "Synthetic",
            "description": "",
            "seeds": list(range(self.seeds)),
            "table": {"metrics": list(self.metrics), "split": "test"},
            "training": {"contrastive_linear": {"selection": "last"}},
            "linear_evaluation": {},
            "compute": {},
            "datasets": {
                d: {"title": d, "modality": "vector", "settings": {}, "fraction": 1.0} for d in self.datasets
            },
            "encoders": {ENCODER: {"name": ENCODER, "modality": "vector", "settings": {}, "training": {}}},
            "losses": {name: loss | {"title": name} for name in self.losses},
            "baselines": [],
            "variants": dict(self.variants),
            "cells": [{"id": str(cell), "fingerprint": str(cell)} for cell in self.cells()],
            "skipped": [],
        }


def write_card(study: SyntheticStudy, dataset: str, labels: int) -> None:
    names = [f"label {i}" for i in range(labels)]
    counts = {name: 1 + 1000 // (1 + i) for i, name in enumerate(names)}
    split = {"examples": 2000, "cardinality": 3.0, "density": 0.1, "empty_rows": 0, "label_counts": counts}
    write_json(
        study.paths.card(dataset),
        {
            "name": dataset,
            "title": dataset,
            "labels": names,
            "splits": dict.fromkeys(("train", "val", "test"), split),
        },
    )
