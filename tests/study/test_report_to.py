"""`report_to: tensorboard`: the curves that records hold are written for TensorBoard, and nothing else changes."""

from __future__ import annotations

import csv
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from mlcl.cli import app
from mlcl.errors import MlclError
from mlcl.records.outline import open_study
from mlcl.records.record import read_record
from mlcl.records.tensorboard import TAGS, write_curves
from mlcl.study.plan import Plan, make_plan

STUDY = {
    "title": "Tiny",
    "seeds": [0],
    "datasets": {"digit_scenes": {"train": 96, "val": 48, "test": 48}},
    "encoders": {"image": {"cnn": {"width": 4}}},
    "losses": ["bce"],
    "baselines": ["label_prior"],
    "training": {"epochs": 3, "batch_size": 32, "selection": "best_val_loss"},
    "readouts": ["head"],
}
CELL = "digit_scenes/cnn/bce/base/seed0"
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("tensorboard") is None, reason="the extra tensorboard is not installed"
)


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLCL_DATA_ROOT", raising=False)


def plan(**changes: Any) -> Plan:
    Path("tiny.yaml").write_text(yaml.safe_dump(STUDY | changes))
    return make_plan(Path("tiny.yaml"))


def train(cell: str) -> None:
    result = CliRunner().invoke(app, ["train", "tiny.yaml", cell])
    assert result.exit_code == 0, result.output


def events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Tag -> step and value of each event."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(folder)).Reload()
    return {tag: [(e.step, e.value) for e in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


def test_the_curve_of_a_record_is_what_is_written() -> None:
    asked = plan(report_to="tensorboard")
    assert asked.by_id[CELL].fingerprint == plan().by_id[CELL].fingerprint
    plan(report_to="tensorboard")
    train(CELL)
    study = open_study("tiny")
    written = events(study.paths.tensorboard / CELL)
    with (study.paths.results / CELL / "history.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 3
    assert written.keys() == {*TAGS.values()}
    for column, tag in TAGS.items():
        steps, values = zip(*written[tag], strict=True)
        assert list(steps) == [int(line["step"]) for line in lines]
        assert list(values) == [np.float32(line[column]) for line in lines]
    assert read_record(study.paths.record(asked.by_id[CELL].cell.id)).status == "ok"
    before = {file: file.stat().st_mtime_ns for file in study.paths.tensorboard.rglob("*")}
    train(CELL)
    assert {file: file.stat().st_mtime_ns for file in study.paths.tensorboard.rglob("*")} == before


def test_curves_of_older_records_follow_and_baselines_have_none() -> None:
    planned = plan()
    for cell in planned.by_id:
        train(cell)
    study = open_study("tiny")
    assert len(planned.by_id) == 2
    assert not study.paths.tensorboard.exists()
    plan(report_to="tensorboard")
    result = CliRunner().invoke(app, ["report", "--all", "tiny.yaml"])
    assert result.exit_code == 0, result.output
    assert events(study.paths.tensorboard / CELL).keys() == {*TAGS.values()}
    assert write_curves(study) == 0


def test_without_the_package_planning_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec

    def find_spec(name: str, package: str | None = None) -> Any:
        return None if name == "tensorboard" else found(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    asked = plan(report_to="tensorboard")
    message = r"^tiny\.yaml: report_to: tensorboard is not installed; .*mlcl\[tensorboard\]$"
    with pytest.raises(MlclError, match=message):
        asked.write()
    plan().write()
