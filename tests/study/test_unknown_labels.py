"""A study on a dataset with unknown labels: what the plan refuses, and its cells from the file to the numbers."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from mlcl.data import open_dataset
from mlcl.errors import ConfigError
from mlcl.evaluation.metrics import evaluate
from mlcl.records.collect import collect
from mlcl.records.outline import open_study
from mlcl.records.record import read_record
from mlcl.records.verify import defects
from mlcl.reporting import load_results
from mlcl.reporting.jackknife import Jackknife
from mlcl.reporting.statistics import examples
from mlcl.study.make import make_cell, prepare_dataset
from mlcl.study.plan import Plan, make_plan

NAMES = ["a", "b", "c", "d"]
STUDY: dict[str, Any] = {
    "title": "Partly labelled",
    "seeds": [0],
    "datasets": {
        "readings": {
            "source": "vectors",
            "path": "readings.csv",
            "label_columns": NAMES,
            "na_values": ["?"],
            "on_missing_label": "ignore",
        }
    },
    "encoders": {"vector": {"mlp": {"hidden": [16]}}},
    "losses": ["bce"],
    "baselines": ["label_prior"],
    "training": {"epochs": 3, "batch_size": 32, "selection": "best_val_micro_f1"},
    "keep_embeddings": True,
}


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """240 readings, whose labels follow from the features; a fifth of them is unknown."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    features = rng.normal(size=(240, 6))
    labels = (features @ rng.normal(size=(6, 4)) > 0.5).astype(int)
    unknown = rng.random(labels.shape) < 0.2
    rows = [",".join(["x0", "x1", "x2", "x3", "x4", "x5", *NAMES])]
    for values, row, gaps in zip(features, labels, unknown, strict=True):
        cells = ["?" if gap else str(label) for label, gap in zip(row, gaps, strict=True)]
        rows.append(",".join([*(f"{value:.4f}" for value in values), *cells]))
    Path("readings.csv").write_text("\n".join(rows), encoding="utf-8")


def plan(**changes: Any) -> Plan:
    Path("study.yaml").write_text(yaml.safe_dump(STUDY | changes), encoding="utf-8")
    return make_plan(Path("study.yaml"), Path())


@pytest.mark.parametrize("loss", ["zlpr", "two_way", "reg", "kmcl", "joint", "supcon_any"])
def test_a_loss_of_whole_label_sets_is_refused(loss: str) -> None:
    expected = (
        rf"datasets\.readings\.on_missing_label: ignore: .*the loss {loss} is defined for known labels only"
    )
    with pytest.raises(ConfigError, match=expected) as error:
        plan(losses=["bce", loss])
    assert "\n" not in str(error.value)
    assert "asl, bce, focal, hill leave unknown ones out" in str(error.value)
    known = {**STUDY["datasets"]["readings"], "on_missing_label": "negative"}
    assert plan(losses=["bce", loss], datasets={"readings": known}).cells


def test_a_search_is_refused_before_its_trials() -> None:
    with pytest.raises(ConfigError, match="the loss reg is defined for known labels only"):
        plan(
            losses=["reg"], search={"method": "random", "trials": 2, "space": {"learning_rate": [0.1, 0.01]}}
        )


def test_neighbours_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"on_missing_label: ignore: .* readouts lists knn"):
        plan(readouts=["linear", "knn"])


def test_a_cell_from_the_file_to_its_numbers() -> None:
    made = plan()
    made.write()
    prepare_dataset(made.paths.dataset_request("readings"))
    for planned in made.cells:
        record = make_cell(made.paths.request(planned.cell.id), io.StringIO())
        assert record.status == "ok", record.reason
    made = plan()
    assert made.counts.current == len(made.cells) == 2
    made.write()

    study = open_study("study")
    collect(study)
    assert list(defects(study)) == []
    bce = next(planned.cell.id for planned in made.cells if planned.cell.id.loss == "bce")
    folder = made.paths.cell(bce)
    dataset = open_dataset(made.datasets["readings"].folder)
    with np.load(folder / "scores.npz") as stored:
        labels, scores = stored["test_labels"], stored["linear_test_scores"]
    assert np.array_equal(labels, dataset["test"].dense_labels())
    assert (labels == -1).any()
    metrics = read_record(folder / "metrics.json").metrics["linear"]["test"]
    expected = evaluate(labels, scores)
    assert {name: metrics[name] for name in expected} == pytest.approx(expected)
    assert metrics["micro_f1"] > 0.7, "the labels follow from the features"

    results = load_results("study")
    values = Jackknife(results).without_groups(bce, "linear", "test", "macro_f1")
    rows = np.random.default_rng(0).permutation(len(labels)) % min(examples.GROUPS, len(labels))
    of_first_group = evaluate(labels[rows != 0], scores[rows != 0])["macro_f1"]
    assert values[0] == pytest.approx(of_first_group, abs=1e-5)
    lines = results.labels.query("loss == 'bce' and readout == 'linear'")
    assert lines["f1"].mean() == pytest.approx(metrics["macro_f1"], abs=1e-5)
    assert lines["average_precision"].mean() == pytest.approx(metrics["map"], abs=1e-5)

    prior_folder = made.paths.cell(next(p.cell.id for p in made.cells if p.cell.id.loss == "label_prior"))
    train = dataset["train"].dense_labels()
    with np.load(prior_folder / "scores.npz") as stored:
        prior = [(train[:, k] == 1).sum() / (train[:, k] >= 0).sum() for k in range(4)]
        assert stored["none_test_scores"][0] == pytest.approx(prior)
