"""New metrics from stored scores, without training."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mlcl.digests import sealed
from mlcl.errors import RecordError
from mlcl.evaluation.metrics import evaluate_splits
from mlcl.evaluation.representation import evaluate_embeddings
from mlcl.records.outline import OpenStudy, OutlineCell
from mlcl.records.paths import CellId, StudyPaths
from mlcl.records.record import Record, read_record, write_record
from mlcl.records.rescore import read_scores, rescore, rescore_study, write_scores
from tests.records.outlines import outline
from tests.synthetic import change_scores, reseal


@pytest.fixture
def folder(tmp_path):
    """A record with scores, in its place below a dataset's folder."""
    folder = tmp_path / "scenes" / "cnn" / "bce" / "base" / "seed0"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    labels = {split: (rng.random((40, 5)) < 0.4).astype(np.uint8) for split in ("val", "test")}
    scores = {
        split: np.clip(rng.normal(0.4 + 0.2 * y, 0.2), 0, 1).astype(np.float32) for split, y in labels.items()
    }
    head = {split: np.clip(values + np.float32(0.1), 0, 1) for split, values in scores.items()}
    ids = dict.fromkeys(labels, np.arange(40))
    write_scores(folder / "scores.npz", {"head": head, "linear": scores}, labels, ids)
    result = {
        "status": "ok",
        "reason": None,
        "fingerprint": "f",
        "metrics": {"linear": {"test": {"old": 0.5}}},
        "metrics_source": "old",
    }
    write_record(folder / "metrics.json", Record(result, {"attempt": 1, "wall_seconds": 3.0}))
    return folder


def splits(folder, readout="linear"):
    with np.load(folder / "scores.npz") as stored:
        return [(stored[f"{split}_labels"], stored[f"{readout}_{split}_scores"]) for split in ("val", "test")]


def test_metrics_are_replaced_and_the_rest_of_the_record_stays(folder):
    before = read_record(folder / "metrics.json")
    assert rescore(folder, "new") is True
    after = read_record(folder / "metrics.json")
    assert after.metrics == {name: evaluate_splits(*splits(folder, name)) for name in ("head", "linear")}
    assert after.metrics["head"] != after.metrics["linear"]
    assert after.result["metrics_source"] == "new"
    assert after.run == before.run
    assert {k: v for k, v in after.result.items() if not k.startswith("metrics")} == {
        k: v for k, v in before.result.items() if not k.startswith("metrics")
    }


def test_a_record_with_current_metrics_is_left_alone(folder):
    before = (folder / "metrics.json").stat().st_mtime_ns
    assert rescore(folder, "old") is False
    assert (folder / "metrics.json").stat().st_mtime_ns == before


def test_a_failed_cell_is_left_alone(folder):
    record = read_record(folder / "metrics.json")
    failed = record.result | {"status": "diverged", "reason": "NaN", "metrics": {}}
    (folder / "scores.npz").unlink()
    write_record(folder / "metrics.json", Record(failed, record.run))
    assert rescore(folder, "new") is False


def test_the_datasets_card_adds_metrics_by_label_frequency(folder):
    counts = dict(zip("abcde", [50, 40, 30, 20, 10], strict=True))
    card = {"labels": list("abcde"), "splits": {"train": {"examples": 100, "label_counts": counts}}}
    (folder.parents[3] / "card.json").write_text(json.dumps(sealed(card)))
    rescore(folder, "new")
    expected = evaluate_splits(*splits(folder), [50, 40, 30, 20, 10], 100)
    assert read_record(folder / "metrics.json").metrics["linear"] == expected
    assert "macro_f1_tail" in expected["test"]


def test_embeddings_that_were_kept_add_representation_metrics(folder):
    rng = np.random.default_rng(1)
    kept = {split: rng.normal(size=(40, 8)).astype(np.float16) for split in ("val", "test")}
    np.savez(folder / "embeddings.npz", **kept)
    reseal(folder)
    rescore(folder, "new")
    metrics = read_record(folder / "metrics.json").metrics
    (y_val, _), (y_test, _) = splits(folder)
    expected = evaluate_embeddings((y_val, kept["val"]), (y_test, kept["test"]))
    assert metrics["none"] == {"test": expected}
    assert not expected.keys() & metrics["linear"]["test"].keys()
    assert "knn_macro_f1" in expected


def test_a_study_is_rescored_as_a_whole(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cells = [OutlineCell(CellId("scenes", "cnn", "bce", "base", seed), "f") for seed in (0, 1)]
    study = OpenStudy(outline(cells=cells, metrics_source="new"), StudyPaths("tiny"))
    (tmp_path / "results").mkdir()
    (tmp_path / "scenes").rename(tmp_path / "moved")
    (tmp_path / "results" / "tiny").mkdir()
    (tmp_path / "moved").rename(tmp_path / "results" / "tiny" / "scenes")
    assert rescore_study(study) == 1
    assert rescore_study(study) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "scores.npz").unlink(), "is missing"),
        (lambda f: (f / "scores.npz").write_bytes(b"PK nonsense"), "is not what was written"),
        (lambda f: (f / "scores.npz").write_bytes(b"PK nonsense") and reseal(f), "cannot be read"),
        (lambda f: change_scores(f, test_labels=None), "test_labels"),
        (lambda f: change_scores(f, scores_kind=np.array("logit")), "'logit'"),
        (lambda f: change_scores(f, linear_test_scores=np.full((40, 5), np.nan)), "probabilities"),
    ],
)
def test_scores_that_cannot_be_used_are_an_error_that_names_the_file(folder, change, message):
    change(folder)
    before = (folder / "metrics.json").read_text()
    with pytest.raises(RecordError, match=rf"(?s)scores\.npz.*{message}"):
        rescore(folder, "new")
    assert (folder / "metrics.json").read_text() == before


def test_scores_are_read_by_readout(folder):
    file = folder / "scores.npz"
    with np.load(file) as stored:
        for readout, read in (("head", "head"), ("linear", "linear"), ("own", "head")):
            found = read_scores(file, readout)
            assert np.array_equal(found["test_scores"], stored[f"{read}_test_scores"])
            assert np.array_equal(found["val_labels"], stored["val_labels"])
    with pytest.raises(RecordError, match=r"no scores of the readout 'knn', only of head, linear"):
        read_scores(file, "knn")


def test_scores_without_an_encoder_stand_beside_every_readout(folder):
    file = folder / "scores.npz"
    (y_val, p_val), (y_test, p_test) = splits(folder)
    write_scores(file, {"none": {"val": p_val, "test": p_test}}, {"val": y_val, "test": y_test},
                 {"val": np.arange(40), "test": np.arange(40)})  # fmt: skip
    reseal(folder)
    assert np.array_equal(read_scores(file, "linear")["test_scores"], p_test)
