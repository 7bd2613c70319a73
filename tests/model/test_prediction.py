"""Raw inputs of the test split get the scores that the record has, whatever the modality, encoder and reader."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from mlcl.evaluation.metrics import evaluate
from mlcl.model import load_model
from mlcl.records.paths import StudyPaths
from tests.model.conftest import Workshop, seal_anew

PHOTOS, NOTES, POINTS = (
    "photos/cnn/bce/base/seed0",
    "notes/transformer/bce/base/seed0",
    "points/mlp/bce/base/seed0",
)


def predictions(file: Path) -> tuple[list[str], dict[str, np.ndarray], dict[str, set[str]]]:
    """The columns of scores; id -> scores; id -> chosen labels."""
    with file.open(encoding="utf-8", newline="") as stream:
        header, *rows = list(csv.reader(stream))
    assert header[0] == "id"
    assert header[-1] == "labels"
    scores = {row[0]: np.array(row[1:-1], dtype=np.float32) for row in rows}
    return header[1:-1], scores, {row[0]: set(filter(None, row[-1].split(";"))) for row in rows}


def raw_test_file(workshop: Workshop, dataset: str) -> Path:
    """The raw inputs of the test split, as a user has them: ids are the dataset's, or row numbers from 1."""
    out = workshop.folder / f"new-{dataset}"
    match dataset:
        case "photos":
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir()
            for photo in (workshop.folder / "photos").glob("test-*"):
                shutil.copy(photo, out)
            return out
        case "notes":
            kept = [
                line
                for line in (workshop.folder / "notes.csv").read_text("utf-8").splitlines()
                if line.endswith((",split", ",test"))
            ]
            out.with_suffix(".csv").write_text("\n".join(kept) + "\n", encoding="utf-8")
            return out.with_suffix(".csv")
        case _:
            lines = (workshop.folder / "points-test.txt").read_text().splitlines()[1:]
            rows = [[float(pair.split(":")[1]) for pair in line.split() if ":" in pair] for line in lines]
            np.save(out.with_suffix(".npy"), np.array(rows))
            return out.with_suffix(".npy")


def check(
    workshop: Workshop, cell: str, study: Path | None = None, device: str = "cpu", atol: float = 1e-5
) -> Path:
    """The command's scores and decisions against those of the record; returns the model's folder."""
    name = study.stem if study else "tiny"
    model = workshop.export(cell, study)
    raw = raw_test_file(workshop, cell.partition("/")[0])
    workshop.run("predict", model, raw, "--out", "out.csv", "--batch-size", "5", "--device", device)
    columns, scores, chosen = predictions(workshop.folder / "out.csv")
    stored, record = workshop.scores(cell, name), workshop.record(cell, name)
    labels = json.loads((model / "config.json").read_text())["labels"]
    assert [column.removesuffix(" (label)") for column in columns] == labels
    ids = [str(row_id) for row_id in stored["test_ids"]]
    keys = ids if ids[0] in scores else [str(number) for number in range(1, len(ids) + 1)]
    assert sorted(keys) == sorted(scores)
    assert (stored["test_scores"].std(axis=0) > 1e-4).all(), "differences beyond the tolerance"
    np.testing.assert_allclose(np.stack([scores[key] for key in keys]), stored["test_scores"], atol=atol)
    decided = np.array([[label in chosen[key] for label in labels] for key in keys])
    tuned = evaluate(stored["test_labels"], decided.astype(np.float32))
    assert tuned["micro_f1"] == pytest.approx(
        record["metrics"].get("linear", record["metrics"].get("knn"))["test"]["micro_f1_tuned"]
    )
    return model


@pytest.mark.parametrize(
    "cell",
    [
        PHOTOS,
        "photos/frozen_cnn/jaccard/base/seed0",
        "photos/frozen_cnn/random_encoder/base/seed0",
        NOTES,
        "notes/transformer/jaccard/base/seed0",
        POINTS,
        "points/mlp/random_encoder/base/seed0",
    ],
)
def test_raw_test_inputs_get_the_scores_of_the_record(workshop: Workshop, cell: str) -> None:
    check(workshop, cell)


def test_nearest_neighbours_are_exported_and_the_card_warns(workshop: Workshop) -> None:
    study = workshop.study("neighbours", readouts=["knn"])
    model = check(workshop, "points/mlp/jaccard/base/seed0", study)
    config = json.loads((model / "config.json").read_text())
    assert (config["readout"], config["readouts"]["knn"]["kind"]) == ("knn", "knn")
    assert "the features and labels of all training rows" in (model / "README.md").read_text()


@pytest.mark.parametrize(
    ("name", "encoder", "training"),
    [
        ("resnet", {"image": {"net": {"name": "resnet18"}}}, {"ema_decay": 0.5, "learning_rate": 0.0001}),
        ("vit", {"image": {"net": {"name": "timm", "model": "test_vit", "freeze": True}}}, {}),
    ],
)
@pytest.mark.slow
def test_networks_of_the_libraries(
    workshop: Workshop, name: str, encoder: dict[str, Any], training: dict[str, Any]
) -> None:
    from tests.model.conftest import STUDY

    datasets = {"photos": STUDY["datasets"]["photos"] | {"size": 32}}
    changes = {"datasets": datasets, "training": STUDY["training"] | training}
    study = workshop.study(name, encoders=encoder, **changes)
    model = check(workshop, "photos/net/bce/base/seed0", study)
    stored = safetensors.torch.load_file(model / "model.safetensors")
    # It belongs to the weights: what is stored counts, not what the library says now.
    stored["encoder.mean"] += 0.1
    before = load_model(model).predict([workshop.folder / "photos/test-71.png"])
    safetensors.torch.save_file(stored, model / "model.safetensors")
    seal_anew(model)
    after = load_model(model)
    torch.testing.assert_close(after.encoder.mean, stored["encoder.mean"])
    assert not np.allclose(before, after.predict([workshop.folder / "photos/test-71.png"]), atol=1e-6)


@pytest.mark.slow
def test_stored_weights_are_not_needed_again(workshop: Workshop) -> None:
    """A frozen network with weights from a local file that is gone by the time of prediction."""
    from torchvision.models import resnet18

    file = workshop.folder / "resnet18.safetensors"
    torch.manual_seed(3)
    safetensors.torch.save_file(resnet18().state_dict(), file)
    encoders = {"image": {"net": {"name": "resnet18", "weights": str(file), "freeze": True}}}
    study = workshop.study("stored", encoders=encoders)
    cell = "photos/net/jaccard/base/seed0"
    model = check(workshop, cell, study)
    assert str(file) not in (model / "config.json").read_text()
    file.unlink()
    tests = sorted((workshop.folder / "photos").glob("test-*"))
    stored = workshop.scores(cell, "stored")
    assert [path.name for path in tests] == sorted(stored["test_ids"])
    scores = stored["test_scores"][np.argsort(stored["test_ids"])]
    np.testing.assert_allclose(load_model(model).predict(tests), scores, atol=1e-5)


@pytest.mark.parametrize("tokenizer", ["published", "trained"])
@pytest.mark.slow
def test_text_models_of_the_library(workshop: Workshop, tokenizer: str) -> None:
    """From a local folder that is gone by the time of prediction; with stored weights, and without."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    bert = workshop.folder / "bert"
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "rain",
        "sun",
        "wind",
        "snow",
        "!",
        "ice",
        "st",
        "##orm",
    ]
    bert.mkdir()
    (bert / "vocab.txt").write_text("\n".join(words) + "\n")
    BertTokenizerFast(str(bert / "vocab.txt"), model_max_length=8).save_pretrained(bert)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=20, max_position_embeddings=16, **sizes)).save_pretrained(bert)
    own = (
        {} if tokenizer == "published" else {"weights": False, "tokenizer": {"kind": "bpe", "vocab_size": 40}}
    )
    encoder = {"name": "huggingface", "model": str(bert), "max_length": 5, "max_chunks": 2, **own}
    study = workshop.study(f"bert_{tokenizer}", encoders={"text": {"net": encoder}})
    cell = "notes/net/bce/base/seed0"
    workshop.export(cell, study)
    moved = workshop.folder / "elsewhere"
    shutil.rmtree(moved, ignore_errors=True)
    model = check(workshop, cell, study)
    shutil.copytree(model, moved)
    shutil.rmtree(bert)
    stored = workshop.scores(cell, study.stem)
    texts = [row["text"] for row in csv.DictReader(raw_test_file(workshop, "notes").open(encoding="utf-8"))]
    np.testing.assert_allclose(load_model(moved).predict(texts), stored["test_scores"], atol=1e-5)


@pytest.mark.slow
def test_decoders_with_adapters(workshop: Workshop) -> None:
    encoder = {
        "name": "decoder",
        "config": {
            "model_type": "llama", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "num_key_value_heads": 1, "intermediate_size": 16,
        },
        "tokenizer": {"kind": "bpe", "vocab_size": 40},
        "max_length": 8,
    }  # fmt: skip
    check(
        workshop,
        "notes/net/bce/base/seed0",
        workshop.study("decoder", encoders={"text": {"net": encoder}}),
    )


def test_the_model_needs_neither_study_nor_data(workshop: Workshop, tmp_path: Path) -> None:
    """From Python, in another folder, with a copy of the exported one alone."""
    model = workshop.export(NOTES)
    copy = tmp_path / "model"
    shutil.copytree(model, copy)
    assert {file.name for file in copy.iterdir()} == {
        "README.md",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    }
    loaded = load_model(copy, device="cpu")
    assert loaded.labels == ["wet", "cold"]
    texts = ["rain and storm", "", "SUN, sun"]
    scores = loaded.predict(texts, batch_size=2)
    assert scores.shape == (3, 2)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, loaded.predict(texts), atol=1e-6)
    assert np.array_equal(scores[2:], loaded.predict(["sun, SUN"])), "cleaned as the dataset was"
    assert loaded.predict([]).shape == (0, 2)
    assert np.array_equal(loaded.decide(scores, 0.5), scores > 0.5)
    assert str(workshop.folder) not in (copy / "config.json").read_text()


def test_python_takes_paths_bytes_and_arrays(workshop: Workshop) -> None:
    model = load_model(workshop.export(PHOTOS), device="cpu")
    files = sorted((workshop.folder / "photos").glob("test-*"))[:3]
    scores = model.predict(files)
    assert np.array_equal(scores, model.predict([str(file) for file in files]))
    assert np.array_equal(scores, model.predict([file.read_bytes() for file in files]))
    from mlcl.data import open_dataset

    request = json.loads((workshop.folder / StudyPaths("tiny").dataset_request("photos")).read_text())
    dataset = open_dataset(workshop.folder / request["prepared"])
    same = model.predict(dataset["test"].images[:3])
    np.testing.assert_allclose(same, scores, atol=1e-6)


@pytest.mark.parametrize("threshold", ["tuned", "0.5", "0", "0.99"])
def test_labels_are_those_above_the_threshold(workshop: Workshop, threshold: str) -> None:
    model = workshop.export(POINTS)
    raw = raw_test_file(workshop, "points")
    workshop.run("predict", model, raw, "--out", "out.csv", "--threshold", threshold)
    columns, scores, chosen = predictions(workshop.folder / "out.csv")
    tuned = json.loads((model / "config.json").read_text())["readouts"]["linear"]["thresholds"]
    limits = tuned if threshold == "tuned" else [float(threshold)] * len(columns)
    for row_id, values in scores.items():
        above = {name for name, value, limit in zip(columns, values, limits, strict=True) if value > limit}
        assert above == chosen[row_id]
    assert threshold != "0" or all(len(found) == len(columns) for found in chosen.values())


QUEUE = {"protocols": {"embeddings": "momentum_queue"}}


@pytest.mark.parametrize(
    ("name", "loss", "training", "changes"),
    [
        ("kmcl", "kmcl", {}, {}),
        ("queue", "reg", {"projection_dim": 4, "steps_per_epoch": 3}, QUEUE),
        ("tuned", "jaccard", {"steps_per_epoch": 3, "finetuning": {"epochs": 1}}, QUEUE),
        ("together", "jaccard", {"projection_dim": 4}, {"compute": {"processes": 2, "device": "cpu"}}),
    ],
)
@pytest.mark.slow
def test_every_protocol_leaves_a_model(
    workshop: Workshop, name: str, loss: str, training: dict[str, Any], changes: dict[str, Any]
) -> None:
    basic = {"epochs": 2, "batch_size": 16, "learning_rate": 0.01}
    encoders = {"vector": {"mlp": {"hidden": [8]}}}
    study = workshop.study(
        name, losses=[loss], baselines=[], encoders=encoders, training=basic | training, **changes
    )
    check(workshop, f"points/mlp/{loss}/base/seed0", study)
