"""A synthetic study: an outline, records with scores and histories, cards; made in an empty folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlcl import reporting
from mlcl.digests import sealed
from mlcl.evaluation.metrics import evaluate_splits
from mlcl.records.collect import collect
from mlcl.records.files import write_json, write_text
from mlcl.records.outline import (
    DatasetOutline,
    EncoderOutline,
    LossOutline,
    OpenStudy,
    Outline,
    OutlineCell,
    SearchOutline,
    SkippedRow,
    Trial,
    open_study,
    write_outline,
)
from mlcl.records.paths import CellId, StudyPaths
from mlcl.records.record import HISTORY, RECORD, SCORES, Record, write_record
from mlcl.records.rescore import write_scores

SOURCE = "metrics-1"
LABELS = {"scenes": 6, "docs": 12, "more": 4, "birds": 5, "songs": 5, "genes": 5}
ROWS = {"val": 150, "test": 300}
SKILL = {
    "bce": 0.30,
    "jaccard": 0.22,
    "reg": 0.26,
    "label_prior": 0.0,
    "random": -0.05,
    "random_encoder": 0.1,
}


@dataclass
class Grid:
    """The grid of the study that is made; change it before `plan`."""

    study: str = "tiny"
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    datasets: dict[str, str] = field(default_factory=lambda: {"scenes": "image", "docs": "text"})
    encoders: dict[str, str] = field(default_factory=lambda: {"cnn": "image", "transformer": "text"})
    losses: list[str] = field(default_factory=lambda: ["bce", "jaccard", "reg"])
    baselines: list[str] = field(default_factory=lambda: ["label_prior", "random_encoder"])
    variants: dict[str, Any] = field(default_factory=lambda: {"base": {}})
    metrics: list[str] = field(default_factory=lambda: ["micro_f1", "macro_f1", "map"])
    split: str = "test"
    readouts: list[str] = field(default_factory=lambda: ["head", "linear"])
    readout: str = "linear"
    skipped: list[dict[str, str]] = field(default_factory=list)
    training: dict[str, Any] = field(
        default_factory=lambda: {
            protocol: {"epochs": 3, "batch_size": 32, "learning_rate": 1e-3, "selection": "last"}
            for protocol in ("contrastive_linear", "end_to_end")
        }
    )
    training_of_encoders: dict[str, Any] = field(default_factory=dict)
    training_of_losses: dict[str, Any] = field(default_factory=dict)
    fingerprints: dict[str, str | None] = field(default_factory=dict)
    search: SearchOutline | None = None
    trials: list[Trial] = field(default_factory=list)

    def cells(self) -> list[CellId]:
        return list(self._cells())

    def _cells(self) -> Iterable[CellId]:
        for dataset, modality in self.datasets.items():
            encoders = [name for name, own in self.encoders.items() if own == modality]
            rows = [("none", b, "base") for b in self.baselines if b != "random_encoder"]
            for encoder in encoders:
                rows += [(encoder, b, "base") for b in self.baselines if b == "random_encoder"]
                rows += [(encoder, loss, variant) for loss in self.losses for variant in self.variants]
            for encoder, loss, variant in rows:
                skipped = {"dataset": dataset, "encoder": encoder, "loss": loss, "variant": variant}
                if not any(skipped.items() <= row.items() for row in self.skipped):
                    for seed in self.seeds:
                        yield CellId(dataset, encoder, loss, variant, seed)

    def fingerprint(self, cell: CellId) -> str | None:
        return self.fingerprints.get(str(cell), f"made-{cell}")

    def readouts_of(self, cell: CellId) -> list[str]:
        """`bce` alone trains a head; `label_prior` and `random` have no encoder."""
        if cell.encoder == "none":
            return ["none"]
        return [readout for readout in self.readouts if readout != "head" or cell.loss == "bce"]

    @property
    def paths(self) -> StudyPaths:
        return StudyPaths(self.study)

    def plan(self) -> Grid:
        """Writes the outline."""
        write_outline(self.outline(), self.paths.outline)
        return self

    def outline(self) -> Outline:
        """What the plan would write of the study."""
        return Outline(
            study=self.study,
            file=f"config/{self.study}.yaml",
            title="A tiny study",
            description="Synthetic records.",
            seeds=self.seeds,
            metrics=self.metrics,
            split=self.split,
            training=self.training,
            readouts=self.readouts,
            readout=self.readout,
            linear_evaluation={"learning_rates": [0.1], "heads": 3},
            compute={"threads": 1, "device": "cpu"},
            datasets={
                name: DatasetOutline(name, name.capitalize(), modality, 1.0, {})
                for name, modality in self.datasets.items()
            },
            encoders={
                name: EncoderOutline(name, modality, {"width": 24}, self.training_of_encoders.get(name, {}))
                for name, modality in self.encoders.items()
            },
            losses={
                name: LossOutline(
                    name=name,
                    title=name,
                    paper="A paper",
                    equation="L = 0",
                    summary=f"What {name} does.",
                    inputs="logits" if name == "bce" else "embeddings",
                    protocol="end_to_end" if name == "bce" else "contrastive_linear",
                    hyperparameters={} if name == "bce" else {"temperature": 0.1},
                    training=self.training_of_losses.get(name, {}),
                    loss=name,
                    file=None,
                )
                for name in self.losses
            },
            baselines=self.baselines,
            variants=self.variants,
            cells=[OutlineCell(cell, self.fingerprint(cell)) for cell in self.cells()],
            skipped=[SkippedRow(**row) for row in self.skipped],
            search=self.search,
            trials=self.trials,
            metrics_source=SOURCE,
            reporting_source="reporting-1",
        )

    @property
    def opened(self) -> OpenStudy:
        """The study as its outline says that it is."""
        return open_study(self.study)

    def make_all(self) -> Grid:
        for dataset in self.datasets:
            self.make_card(dataset)
        for cell in [*(trial.id for trial in self.trials), *self.cells()]:
            self.make(cell)
        return self

    def make(
        self, cell: CellId, fingerprint: str | None = None, diagnostics: dict[str, Any] | None = None
    ) -> None:
        """A record that went well, with its scores and history."""
        folder = self.paths.cell(cell)
        folder.mkdir(parents=True, exist_ok=True)
        labels = {split: dataset_labels(cell.dataset, split, rows) for split, rows in ROWS.items()}
        ids = {split: np.array([f"{split}-{i}" for i in range(rows)]) for split, rows in ROWS.items()}
        scores = {readout: make_scores(cell, readout) for readout in self.readouts_of(cell)}
        write_scores(folder / SCORES, scores, labels, ids)
        metrics = {
            readout: evaluate_splits(*((labels[split], values[split]) for split in ROWS))
            for readout, values in scores.items()
        }
        write_text(folder / HISTORY, make_history(cell))
        self._write(cell, "ok", None, metrics, fingerprint, diagnostics)

    def fail(self, cell: CellId, status: str, reason: str) -> None:
        """A record of a cell that failed."""
        self._write(cell, status, reason, {}, None)

    def _write(
        self,
        cell: CellId,
        status: str,
        reason: str | None,
        metrics: Mapping[str, Any],
        fingerprint: str | None,
        diagnostics: dict[str, Any] | None = None,
    ) -> None:
        made_of = {
            "seed": cell.seed,
            "settings": {"training": {"epochs": 3}},
            "dataset_fingerprint": cell.dataset,
        }
        result = {
            "id": str(cell),
            "study": self.study,
            "fingerprint": fingerprint or self.fingerprint(cell) or "unknown",
            **made_of,
            "dataset": {
                "name": cell.dataset,
                "fingerprint": "d" * 64,
                "content_sha256": content_of(cell.dataset),
                "examples": {"train": 400, "val": 150, "test": 300},
            },
            "status": status,
            "reason": reason,
            "metrics": metrics,
            "metrics_source": SOURCE,
            "diagnostics": diagnostics or {},
            "selection": "last",
        }
        run = {
            "attempt": 1,
            "wall_seconds": 10.0 + cell.seed + len(cell.loss),
            "cpu_seconds": 9.5,
            "peak_memory_mb": 512.0 + 8 * len(cell.loss),
            "examples_per_second": 800.0,
            "step_seconds": {
                "data": 0.001,
                "forward": 0.004,
                "loss": 0.001 * len(cell.loss),
                "backward": 0.008,
            },
            "flops_per_second": 2e10,
            "device_flops_per_second": 5e10,
            "versions": {"python": "3.11", "torch": "2.15"},
            "host": "here",
            "commit": "abc1234",
            "device": "cpu",
        }
        write_record(self.paths.record(cell), Record(result, run))

    def make_card(self, dataset: str) -> None:
        train = dataset_labels(dataset, "train", 400)
        content = sealed(
            {
                "name": dataset,
                "content_sha256": content_of(dataset),
                "title": dataset.capitalize(),
                "labels": [f"{dataset} label {i}" for i in range(LABELS[dataset])],
                "splits": {
                    split: split_card(
                        dataset, train if split == "train" else dataset_labels(dataset, split, rows)
                    )
                    for split, rows in (("train", 400), ("val", 150), ("test", 300))
                },
            }
        )
        write_json(self.paths.card(dataset), content)


def content_of(dataset: str) -> str:
    """Its digest."""
    return hashlib.sha256(dataset.encode()).hexdigest()


def split_card(dataset: str, labels: np.ndarray) -> dict[str, Any]:
    return {
        "examples": len(labels),
        "cardinality": float(labels.sum(1).mean()),
        "density": float(labels.mean()),
        "empty_rows": int((labels.sum(1) == 0).sum()),
        "label_counts": {f"{dataset} label {i}": int(count) for i, count in enumerate(labels.sum(0))},
    }


def dataset_labels(dataset: str, split: str, rows: int) -> np.ndarray:
    seed = sum(map(ord, dataset + split))
    n = LABELS[dataset]
    return (np.random.default_rng(seed).random((rows, n)) < 0.5 / (1 + 0.4 * np.arange(n))).astype(np.uint8)


def make_scores(cell: CellId, readout: str) -> dict[str, np.ndarray]:
    """split -> scores that are better the more skill a loss has, and worse by a head of its own."""
    rng = np.random.default_rng(sum(map(ord, cell.loss + cell.variant)) * 100 + cell.seed)
    skill = SKILL.get(cell.loss, 0.2) - (0.08 if "fraction" in cell.variant else 0)
    skill -= 0.15 * (readout == "head")
    stored = {}
    for split, rows in ROWS.items():
        labels = dataset_labels(cell.dataset, split, rows)
        scores = 0.35 + skill * (2.0 * labels - 1) + rng.normal(0, 0.2, labels.shape)
        stored[split] = np.clip(scores, 0, 1).astype(np.float32)
    return stored


def make_history(cell: CellId) -> str:
    start = 1.5 + 0.1 * cell.seed
    lines = [f"{e},{10 * e},{start / (1 + 0.6 * e):.6f},{1e-3 / (e + 1):.6f},{0.5 * e}" for e in range(12)]
    return "\n".join(["epoch,step,loss,learning_rate,seconds", *lines, ""])


@pytest.fixture
def grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Grid:
    """A study of 2 datasets, 3 losses, 2 baselines, 3 seeds, in an empty working directory; nothing is made yet."""
    monkeypatch.chdir(tmp_path)
    return Grid()


def edit_record(folder: Path, *path: str, value: Any) -> None:
    """Sets a value of a record, such as `result`, `code`, as if it had been written so."""
    file = folder / RECORD
    content = read_json(file)
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    write_record(file, Record(content["result"], content["run"]))


def change_scores(folder: Path, **changes: Any) -> None:
    """Other arrays in the scores of a record (None: not there), as if it had been written with them."""
    with np.load(folder / SCORES) as stored:
        arrays = dict(stored) | changes
    np.savez(folder / SCORES, **{key: values for key, values in arrays.items() if values is not None})
    reseal(folder)


def reseal(folder: Path) -> None:
    """As if the record had been written with the files that lie beside it now."""
    content = read_json(folder / RECORD)
    write_record(folder / RECORD, Record(content["result"], content["run"]))


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def spoiled(grid: Grid) -> Grid:
    """A study with two variants of which one row is skipped, a cell diverged, one is stale, three are missing."""
    grid.variants = {"base": {}, "fraction_0.1": {"dataset": {"fraction": 0.1}}}
    row = {"dataset": "docs", "encoder": "transformer", "loss": "jaccard", "variant": "fraction_0.1"}
    grid.skipped = [row | {"reason": "jaccard has no fraction"}]
    grid.plan().make_all()
    grid.fail(
        CellId("scenes", "cnn", "reg", "base", 1), "diverged", "the loss is NaN in epoch 3 & step_17 (100 %)"
    )
    grid.make(CellId("docs", "transformer", "bce", "base", 2), fingerprint="of-old")
    for seed in grid.seeds:
        grid.paths.record(CellId("docs", "transformer", "reg", "base", seed)).unlink()
    return grid


@pytest.fixture(scope="session")
def finished_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spoiled study with all its outputs. Tests only read in it."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        spoiled(Grid())
        collect(open_study("tiny"), partial=True)
        reporting.write_tables("tiny")
        reporting.write_figures("tiny")
        reporting.write_report("tiny")
    return folder


@pytest.fixture
def finished(finished_folder: Path, monkeypatch: pytest.MonkeyPatch) -> StudyPaths:
    """The paths of a finished study, with its folder as working directory."""
    monkeypatch.chdir(finished_folder)
    return StudyPaths("tiny")
