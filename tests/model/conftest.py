"""A folder with small datasets of three modalities, and a study that keeps its models."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner, Result

from mlcl.cli import app
from mlcl.digests import digests_of, sealed
from mlcl.records.paths import CellId, StudyPaths
from mlcl.study.make import THREAD_VARIABLES

WORDS = ("rain", "sun", "wind", "Snow!", "fög", "ice", "storm", "heat")
MODALITY = {"photos": "image", "notes": "text", "points": "vector"}
SPLITS = ["train"] * 40 + ["val"] * 16 + ["test"] * 16
TRANSFORMER = {"dim": 8, "heads": 2, "feedforward": 8, "max_length": 6, "tokenizer": {"vocab_size": 30}}
STUDY: dict[str, Any] = {
    "title": "Tiny",
    "seeds": [0],
    "datasets": {
        "photos": {
            "source": "images", "folder": "photos", "table": "photos.csv", "file": "name",
            "label_columns": ["red", "id"], "split": "split", "id": "name", "size": 16,
        },
        "notes": {
            "source": "table", "path": "notes.csv", "text": "text", "label_list": "tags", "separator": ";",
            "split": "split", "id": "id", "cleaning": "comprehensive",
        },
        "points": {"source": "svmlight", "path": "points.txt", "test_path": "points-test.txt"},
    },
    "encoders": {
        "image": {"cnn": {"width": 4}, "frozen_cnn": {"name": "cnn", "width": 4, "freeze": True, "adapter_dim": 12}},
        "text": {"transformer": TRANSFORMER},
        "vector": {"mlp": {"hidden": [8]}},
    },
    "losses": ["bce", "jaccard"],
    "baselines": ["random_encoder", "label_prior"],
    "training": {"epochs": 2, "batch_size": 16, "projection_dim": 4, "learning_rate": 0.01},
    "linear_evaluation": {"learning_rates": [0.1], "weight_decays": [0.01], "heads": 2, "epochs": 3},
    "keep_models": True,
}  # fmt: skip


def seal_anew(model: Path) -> None:
    """Enter the digests of the files as they are now, after a test changed one on purpose."""
    file = model / "config.json"
    with contextlib.suppress(OSError, ValueError):
        content = json.loads(file.read_text())
        digests = {
            name: digest
            for name, digest in digests_of(model).items()
            if name not in ("config.json", "README.md")
        }
        content = {key: value for key, value in content.items() if key != "seal"} | {"files": digests}
        file.write_text(json.dumps(sealed(content)))


class Workshop:
    """A working directory in which cells are made, exported and used through the command line."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def study(self, name: str = "tiny", **changes: Any) -> Path:
        """A study file; datasets that no encoder is there for are left out."""
        content = STUDY | changes
        served = {
            dataset: entry
            for dataset, entry in content["datasets"].items()
            if MODALITY[dataset] in content["encoders"]
        }
        file = self.folder / f"{name}.yaml"
        file.write_text(yaml.safe_dump(content | {"datasets": served}, sort_keys=False))
        return Path(file.name)

    def run(self, *arguments: object) -> Result:
        """A command, in this process; what it raises is raised here."""
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result

    def export(self, cell: str, study: Path | None = None) -> Path:
        """Makes the cell unless it is there, and exports it."""
        study = study or self.study()
        self.run("train", study, cell, "--data-root", self.folder)
        assert self.record(cell, study.stem)["status"] == "ok", self.record(cell, study.stem)
        to = Path("models") / f"{study.stem}-{cell.replace('/', '-')}"
        self.run("export", study.stem, cell, "--to", to)
        return self.folder / to

    def cell(self, cell: str, study: str = "tiny") -> Path:
        return self.folder / StudyPaths(study).cell(CellId.parse(cell))

    def record(self, cell: str, study: str = "tiny") -> dict[str, Any]:
        import json

        return json.loads((self.cell(cell, study) / "metrics.json").read_text())["result"]

    def scores(self, cell: str, study: str = "tiny") -> dict[str, np.ndarray]:
        """Labels and ids that training stored, and the scores of linear evaluation, or of kNN where there is none."""
        with np.load(self.cell(cell, study) / "scores.npz") as stored:
            return {key.removeprefix("linear_").removeprefix("knn_"): stored[key] for key in stored.files}


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The raw files."""
    folder = tmp_path_factory.mktemp("workshop")
    rng = np.random.default_rng(0)
    write_photos(folder, rng)
    write_notes(folder, rng)
    write_points(folder, rng)
    return folder


@pytest.fixture
def workshop(data: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workshop]:
    """Shared by all tests: what one makes is there for the next."""
    monkeypatch.chdir(data)
    for variable in THREAD_VARIABLES:
        monkeypatch.setenv(variable, os.environ.get(variable, "1"))
    monkeypatch.delenv("MLCL_DATA_ROOT", raising=False)
    return Workshop(data)


def write_photos(folder: Path, rng: np.random.Generator) -> None:
    """Of different sizes and kinds, so that resizing and conversion matter."""
    (folder / "photos").mkdir()
    lines = ["name,red,id,split"]
    for number, split in enumerate(SPLITS):
        red, other = rng.integers(2, size=2)
        height, width = rng.integers(20, 40, size=2)
        pixels = rng.integers(0, 120, size=(height, width, 3), dtype=np.uint8)
        pixels[..., 0] += np.uint8(100 * red)
        pixels[..., 2] += np.uint8(100 * other)
        name = f"{split}-{number:02d}.{'png' if number % 2 else 'jpg'}"
        Image.fromarray(pixels).save(folder / "photos" / name)
        lines.append(f"{name},{red},{other},{split}")
    (folder / "photos.csv").write_text("\n".join(lines) + "\n")


def write_notes(folder: Path, rng: np.random.Generator) -> None:
    lines = ["id,text,tags,split"]
    for number, split in enumerate(SPLITS):
        chosen = rng.choice(WORDS, size=rng.integers(0 if number > 2 else 1, 9))
        tags = ["wet"] * bool({"rain", "storm"} & set(chosen)) + ["cold"] * bool(
            {"Snow!", "ice"} & set(chosen)
        )
        lines.append(f'n{number},"{"  ".join(chosen)}",{";".join(tags)},{split}')
    (folder / "notes.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_points(folder: Path, rng: np.random.Generator) -> None:
    for name, rows in (("points.txt", 60), ("points-test.txt", 16)):
        lines = [f"{rows} 5 2"]
        for _ in range(rows):
            point = rng.normal(size=5)
            labels = ",".join(str(label) for label in (0, 1) if point[label] > 0)
            lines.append(f"{labels} " + " ".join(f"{k}:{value:.4f}" for k, value in enumerate(point)))
        (folder / name).write_text("\n".join(lines) + "\n")
