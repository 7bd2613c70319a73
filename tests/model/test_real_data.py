"""Raw files of real datasets, read here by other means than preparation's, get the record's scores."""

from __future__ import annotations

import csv
import gzip
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlcl.evaluation.metrics import evaluate
from mlcl.records.paths import PREPARED
from mlcl.study.make import THREAD_VARIABLES
from tests.model.conftest import Workshop
from tests.model.test_prediction import predictions

pytestmark = pytest.mark.slow

STUDY: dict[str, Any] = {
    "title": "Real",
    "seeds": [0],
    "losses": ["bce"],
    "training": {"epochs": 1, "batch_size": 64, "learning_rate": 0.005},
    "keep_models": True,
}


def plain(file: Path) -> str:
    packed = file.with_name(f"{file.name}.gz")
    return gzip.decompress(packed.read_bytes()).decode() if packed.exists() else file.read_text("utf-8")


def comments(root: Path, ids: list[str], out: Path) -> Path:
    """GoEmotions' test rows as JSON Lines."""
    rows = [line.split("\t") for line in plain(root / "goemotions/data/test.tsv").split("\n") if line]
    lines = [json.dumps({"id": row_id, "text": text.rstrip("\r")}) for text, _, row_id in rows]
    (out / "new.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return out / "new.jsonl"


def songs(root: Path, ids: list[str], out: Path) -> Path:
    """The 72 attributes of Mulan's emotions as columns; ids as preparation counts them."""
    lines = plain(root / "mulan/emotions/emotions-test.arff").split("\n")
    rows = [line.strip() for line in lines[lines.index("@data") + 1 :] if line.strip()]
    with (out / "new.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*(f"attribute {k}" for k in range(72)), "id"])
        writer.writerows([*row.split(",")[:72], f"test-{n}"] for n, row in enumerate(rows))
    return out / "new.csv"


def photos(root: Path, ids: list[str], out: Path) -> Path:
    """The test images of the MIML scenes as they are in the archive."""
    folder = out / "new"
    folder.mkdir()
    with zipfile.ZipFile(root / "miml_scene/miml_dataset.zip") as archive:
        for name in ids:
            (folder / name).write_bytes(archive.read(f"miml_dataset/images/{name}"))
    return folder


@pytest.mark.parametrize(
    ("dataset", "settings", "encoder", "raw"),
    [
        ("goemotions", {"fraction": 0.1}, {"text": {"transformer": {"dim": 32}}}, comments),
        ("mulan_emotions", {"accept_local": True}, {"vector": {"mlp": {"hidden": [32]}}}, songs),
        ("miml_scene", {"size": 48}, {"image": {"cnn": {"width": 8}}}, photos),
    ],
)
def test_the_test_split_from_its_raw_file(
    data_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dataset: str,
    settings: dict[str, Any],
    encoder: dict[str, Any],
    raw: Callable[[Path, list[str], Path], Path],
) -> None:
    monkeypatch.chdir(tmp_path)
    for variable in THREAD_VARIABLES:
        monkeypatch.setenv(variable, os.environ.get(variable, "1"))
    root = data_root.resolve()
    workshop = Workshop(tmp_path)
    Path("real.yaml").write_text(json.dumps(STUDY | {"datasets": {dataset: settings}, "encoders": encoder}))
    cell = f"{dataset}/{next(iter(next(iter(encoder.values()))))}/bce/base/seed0"
    workshop.run("train", "real.yaml", cell, "--data-root", root)
    assert workshop.record(cell, "real")["status"] == "ok", workshop.record(cell, "real")["reason"]
    workshop.run("export", "real", cell, "--to", "model")
    stored = workshop.scores(cell, "real")
    file = raw(root, [str(row_id) for row_id in stored["test_ids"]], tmp_path)
    assert PREPARED.exists()
    PREPARED.rename("gone")  # nothing but the model's folder and the raw file may play a part
    workshop.run("predict", "model", file, "--out", "out.csv", "--threshold", "0.5", "--batch-size", "200")
    columns, scores, chosen = predictions(Path("out.csv"))
    found = np.stack([scores[str(row_id)] for row_id in stored["test_ids"]])
    assert len(scores) == len(found)
    np.testing.assert_allclose(found, stored["test_scores"], atol=1e-5)
    decided = np.array([[c in chosen[str(row_id)] for c in columns] for row_id in stored["test_ids"]])
    micro_f1 = workshop.record(cell, "real")["metrics"]["linear"]["test"]["micro_f1"]
    assert evaluate(stored["test_labels"], decided.astype(np.float32))["micro_f1"] == pytest.approx(micro_f1)
    assert (Path("model") / "README.md").read_text(encoding="utf-8").count("| ") > len(columns)
