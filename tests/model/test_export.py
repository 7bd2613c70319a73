"""What a cell keeps, and how it is packed."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch

import mlcl
import mlcl.model.folder
from mlcl.errors import MlclError
from mlcl.evaluation.metrics import best_thresholds
from tests.model.conftest import STUDY, Workshop

CELL = "points/mlp/bce/base/seed0"


def test_the_folder_says_what_the_model_is(workshop: Workshop) -> None:
    model = workshop.export(CELL)
    config, record = json.loads((model / "config.json").read_text()), workshop.record(CELL)
    scores = workshop.scores(CELL)
    assert config["readout"] == "linear", "the readout of the study's tables"
    assert list(config["readouts"]) == ["head", "linear"]
    for readout, part in config["readouts"].items():
        assert part["metrics"] == record["metrics"][readout]
    assert config["trained"]["fingerprint"] == record["fingerprint"]
    assert config["trained"]["loss"] == {"name": "bce", "hyperparameters": {}}
    thresholds = best_thresholds(scores["val_labels"], scores["val_scores"]).tolist()
    assert config["readouts"]["linear"]["thresholds"] == thresholds
    parts = {name.partition(".")[0] for name in safetensors.torch.load_file(model / "model.safetensors")}
    assert parts == {"encoder", "heads"}
    card = (model / "README.md").read_text()
    assert "as the user says" in card, "the licence of the data"
    assert "the weights of the last epoch" in card
    assert f"{record['metrics']['linear']['test']['map']:.4f}" in card
    for label in config["labels"]:
        assert f"| {label} |" in card
    assert "{{" not in card
    assert str(workshop.folder) not in card


def test_a_readout_is_chosen_at_export_or_at_prediction(workshop: Workshop, tmp_path: Path) -> None:
    from mlcl.model import ModelError, load_model

    folder = workshop.export(CELL)
    vectors = np.random.default_rng(0).random((3, 5), dtype=np.float32)
    by_head, by_heads = (load_model(folder, readout=name).predict(vectors) for name in ("head", "linear"))
    assert not np.allclose(by_head, by_heads)
    assert np.array_equal(load_model(folder).predict(vectors), by_heads)
    workshop.run("export", "tiny", CELL, "--to", tmp_path / "by-head", "--readout", "head")
    exported = load_model(tmp_path / "by-head")
    assert np.array_equal(exported.predict(vectors), by_head)
    assert exported.thresholds("tuned").tolist() != load_model(folder).thresholds("tuned").tolist()
    with pytest.raises(ModelError, match="readout 'knn': the model has no such"):
        load_model(folder, readout="knn")


def test_a_checkout_that_was_never_installed_makes_and_exports_models(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.metadata.distribution

    def distribution(name: str) -> importlib.metadata.Distribution:
        if name == "mlcl":
            raise importlib.metadata.PackageNotFoundError(name)
        return found(name)

    monkeypatch.setattr(importlib.metadata, "distribution", distribution)
    model = workshop.export(CELL, workshop.study("checkout"))
    assert json.loads((model / "config.json").read_text())["trained"]["versions"]["mlcl"] == mlcl.__version__


def test_a_second_export_replaces_the_first_and_nothing_else(workshop: Workshop, tmp_path: Path) -> None:
    workshop.export(CELL)
    to = tmp_path / "model"
    workshop.run("export", "tiny", CELL, "--to", to)
    (to / "left.txt").write_text("of the first")
    workshop.run("export", "tiny", CELL, "--to", to)
    assert not (to / "left.txt").exists()
    assert [file.name for file in tmp_path.iterdir()] == ["model"], "nothing written aside is left"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(MlclError, match="holds something that is no exported model"):
        workshop.run("export", "tiny", CELL, "--to", tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"


def test_the_default_place(workshop: Workshop) -> None:
    workshop.export(CELL)
    result = workshop.run("export", "tiny.yaml", CELL)
    assert "models/tiny/points-mlp-bce-base-seed0" in result.stderr
    assert (workshop.folder / "models/tiny/points-mlp-bce-base-seed0/model.safetensors").is_file()


def test_cells_without_a_model_say_why(workshop: Workshop) -> None:
    study = workshop.study("forgetful", keep_models=False)
    with pytest.raises(MlclError, match=r"has no cell 'points/mlp/bcd.*did you mean"):
        workshop.run("export", study, "points/mlp/bcd/base/seed0")
    with pytest.raises(
        MlclError, match=r"has no record yet; set keep_models: true.*'mlcl train forgetful\.yaml points"
    ):
        workshop.run("export", study, CELL)
    workshop.run("train", study, CELL, "--data-root", workshop.folder)
    assert not (workshop.cell(CELL, "forgetful") / "model").exists()
    with pytest.raises(
        MlclError,
        match=r"without keeping its model; set keep_models: true.*'mlcl train forgetful\.yaml points",
    ):
        workshop.run("export", study, CELL)
    prior = "points/none/label_prior/base/seed0"
    workshop.run("train", study, prior, "--data-root", workshop.folder)
    with pytest.raises(MlclError, match="has no encoder, so there is no model to export"):
        workshop.run("export", study, prior)


def test_failed_cells_have_no_model(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ValueError("no")

    monkeypatch.setattr("mlcl.training.launch.train", fail)
    study = workshop.study("failing")
    workshop.run("train", study, CELL, "--data-root", workshop.folder)
    with pytest.raises(MlclError, match="has no model: error: ValueError: no"):
        workshop.run("export", study, CELL)


def test_a_kill_while_saving_leaves_no_record_and_no_half_model(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = workshop.study("killed", training=STUDY["training"] | {"epochs": 1})
    folder = workshop.cell(CELL, "killed")
    save = mlcl.model.folder.save

    def half(*arguments: object) -> None:
        save(*arguments)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(mlcl.model.folder, "save", half)
        with pytest.raises(BaseException):  # noqa: B017, PT011 (however the runner tells of it)
            workshop.run("train", study, CELL, "--data-root", workshop.folder)
    assert not (folder / "metrics.json").exists()
    assert not (folder / "model").exists()
    shutil.copytree(
        workshop.folder / "photos", folder / "unfinished" / "new" / ".model.123"
    )  # as a SIGKILL would
    workshop.export(CELL, study)
    assert sorted(file.name for file in folder.iterdir()) == [
        "history.csv",
        "metrics.json",
        "model",
        "scores.npz",
    ]


def test_keeping_models_changes_no_result(workshop: Workshop) -> None:
    """The same scores, with and without."""
    cell = "points/mlp/jaccard/base/seed0"
    workshop.export(cell)
    workshop.run("train", workshop.study("bare", keep_models=False), cell, "--data-root", workshop.folder)
    first, second = workshop.scores(cell), workshop.scores(cell, "bare")
    assert all((first[key] == second[key]).all() for key in first)
