"""Model selection: the best epoch's weights are evaluated, and the test split plays no part in the choice."""

from __future__ import annotations

import io
import itertools
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from tiny import cell, labels, only_scores, prepare, run
from torch import Tensor

from mlcl.data import PreparedDataset, Split
from mlcl.study.make import make_cell, prepare_dataset
from mlcl.study.plan import make_plan
from mlcl.training import fit, protocols
from mlcl.training.inputs import batches
from mlcl.training.methods import Method
from mlcl.training.outcome import Outcome
from mlcl.training.settings import CellSettings

EPOCHS = 5
SLOW = pytest.mark.slow
CASES = [
    pytest.param("bce", "end_to_end", {"learning_rate": 0.3}),
    pytest.param("mulsupcon", "contrastive_linear", {"learning_rate": 0.3}),
    pytest.param("kmcl", "kmcl", {"learning_rate": 0.1, "ema_decay": 0.5}, marks=SLOW),
    pytest.param("joint", "joint", {"learning_rate": 0.3}, marks=SLOW),
    pytest.param("mulsupcon", "momentum_queue", {"learning_rate": 0.05, "queue_size": 20}, marks=SLOW),
]


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    """There is hardly anything to learn, so that more training is soon worse on validation."""
    return prepare("vector", tmp_path_factory.mktemp("noise") / "prepared", shown=False)


def steady(dataset: PreparedDataset, loss: str, protocol: str, **training: Any) -> CellSettings:
    """Nothing depends on the number of epochs, so that trainings of 1, 2, 3, ... epochs share their beginning."""
    fixed = {"schedule": "constant", "warmup": 0.0, "batch_size": 16}
    return cell(dataset, loss, protocol, training=fixed | training)


def method_of(outcome: Outcome) -> Method:
    assert outcome.fitted is not None
    return outcome.fitted.method.eval()


@torch.no_grad()
def by_hand(dataset: PreparedDataset, method: Method) -> dict[str, float]:
    """The loss of validation batches in their order, weighted by their rows; micro-F1 row by row."""
    truth = torch.from_numpy(labels(dataset, "val")).bool()
    features = {
        split: method.encoder(torch.from_numpy(np.array(dataset[split].vectors)))
        for split in ("train", "val")
    }
    total = 0.0
    for start in range(0, len(truth), 16):
        part = slice(start, start + 16)
        total += float(method.loss(features["val"][part], truth[part])) * len(truth[part])
    hits = predicted = 0
    for row, feature in enumerate(features["val"]):
        chosen = _predicted(dataset, method, feature, features["train"])
        hits += int((chosen & truth[row]).sum())
        predicted += int(chosen.sum())
    return {"val_loss": total / len(truth), "val_micro_f1": 2 * hits / (predicted + int(truth.sum()))}


def _predicted(dataset: PreparedDataset, method: Method, feature: Tensor, train: Tensor) -> Tensor:
    if method.head is not None:
        chosen: Tensor = torch.sigmoid(method.head(feature)) > 0.5
        return chosen
    similarity = torch.nn.functional.cosine_similarity(feature[None], train)
    nearest = similarity.argsort(descending=True)[:10]
    votes = torch.from_numpy(labels(dataset, "train"))[nearest].float().mean(0)
    return votes > 0.5


@pytest.mark.parametrize(("loss", "protocol", "training"), CASES)
def test_the_best_epoch_s_weights_are_evaluated(
    noise: PreparedDataset, loss: str, protocol: str, training: dict[str, Any]
) -> None:
    each = [run(steady(noise, loss, protocol, epochs=n, **training), noise) for n in range(1, EPOCHS + 1)]
    values = [by_hand(noise, method_of(outcome)) for outcome in each]
    best = {
        "last": EPOCHS - 1,
        "best_val_loss": int(np.argmin([value["val_loss"] for value in values])),
        "best_val_micro_f1": int(np.argmax([value["val_micro_f1"] for value in values])),
    }
    assert min(best.values()) < EPOCHS - 1, "the last epoch is the best: nothing is chosen"
    for rule, number in best.items():
        settings = steady(noise, loss, protocol, epochs=EPOCHS, selection=rule, **training)
        outcome = run(settings, noise)
        expected = method_of(each[number]).state_dict()
        for key, value in method_of(outcome).state_dict().items():
            if isinstance(value, Tensor):
                assert torch.equal(value, expected[key]), (rule, key)
        assert np.array_equal(only_scores(outcome)["test"], only_scores(each[number])["test"])
        assert np.array_equal(outcome.features["val"], each[number].features["val"])
        curve = outcome.fitted.curve  # type: ignore[union-attr]
        assert [line.epoch for line in curve] == list(range(1, EPOCHS + 1)), "the curve is that of all epochs"
        for line, value in zip(curve, values, strict=True):
            if rule == "last":
                assert line.val_loss is None
            else:
                assert line.val_loss == pytest.approx(value["val_loss"], rel=1e-4)
                assert line.val_micro_f1 == pytest.approx(value["val_micro_f1"], abs=1e-6)


def test_of_equal_epochs_the_first_is_selected(vectors: PreparedDataset) -> None:
    """A rate of nearly nothing: micro-F1 stays as it was."""
    settings = steady(
        vectors, "bce", "end_to_end", epochs=3, selection="best_val_micro_f1", learning_rate=1e-9
    )
    one = run(steady(vectors, "bce", "end_to_end", epochs=1, learning_rate=1e-9), vectors)
    kept, first = (method_of(outcome).state_dict() for outcome in (run(settings, vectors), one))
    assert torch.equal(
        kept["encoder.layers.0.num_batches_tracked"], first["encoder.layers.0.num_batches_tracked"]
    )


@pytest.mark.parametrize("rule", ["last", "best_val_loss", "best_val_micro_f1"])
@pytest.mark.parametrize(("loss", "protocol"), [("bce", "end_to_end"), ("mulsupcon", "contrastive_linear")])
def test_the_test_split_is_scored_once_and_its_labels_are_not_read(
    vectors: PreparedDataset, monkeypatch: pytest.MonkeyPatch, rule: str, loss: str, protocol: str
) -> None:
    read: dict[str, list[int]] = {"train": [], "val": [], "test": []}
    opened, dense = batches.open_inputs, Split.dense_labels

    def spied(dataset: PreparedDataset, split: str, *rest: Any) -> batches.Inputs:
        inputs = opened(dataset, split, *rest)
        gather = inputs.gather
        inputs.gather = lambda rows: (read[split].extend(rows.tolist()), gather(rows))[1]  # type: ignore[method-assign]
        return inputs

    def guarded(self: Split, rows: Any = None) -> np.ndarray:
        assert self.name != "test"
        return dense(self, rows)

    monkeypatch.setattr(batches, "open_inputs", spied)
    monkeypatch.setattr(Split, "dense_labels", guarded)
    run(steady(vectors, loss, protocol, epochs=3, selection=rule), vectors)
    assert sorted(read["test"]) == list(range(30))
    passes = 1 if rule == "last" else 4  # once after each epoch, once at the end
    assert len(read["val"]) == 30 * passes


def test_validation_is_not_counted_as_training_time(
    vectors: PreparedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = itertools.count()
    validated = 0

    def long(context: Any, settings: Any) -> Any:
        def measure(method: Any) -> dict[str, float]:
            nonlocal validated
            validated += 1
            return {"val_loss": 1.0, "val_micro_f1": 0.5}

        return measure

    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks) * 1e-3 + validated * 1000)
    monkeypatch.setattr(fit, "validation", long)
    outcome = run(steady(vectors, "bce", "end_to_end", epochs=3, selection="best_val_loss"), vectors)
    assert outcome.fitted is not None
    assert validated == 3
    assert 0 < outcome.fitted.curve[-1].seconds < 1000


def test_the_second_stage_selects_by_its_own_rule(noise: PreparedDataset) -> None:
    tuning = {
        "steps_per_epoch": None,
        "batch_size": 16,
        "learning_rate": 0.5,
        "schedule": "constant",
        "head_dropout": 0.0,
    }

    def tuned(epochs: int, rule: str) -> Outcome:
        training = {"queue_size": 20, "finetuning": tuning | {"epochs": epochs, "selection": rule}}
        settings = steady(noise, "mulsupcon", "momentum_queue", epochs=1, **training)
        return run(settings, noise)

    each = [tuned(epochs, "last") for epochs in range(1, 5)]
    values = [by_hand(noise, method_of(outcome))["val_loss"] for outcome in each]
    best = int(np.argmin(values))
    assert best < 3, "the last epoch is the best: nothing is chosen"
    chosen = tuned(4, "best_val_loss")
    assert np.array_equal(only_scores(chosen)["test"], only_scores(each[best])["test"])


def test_the_last_stage_s_rule_is_reported() -> None:
    module = protocols.load("momentum_queue")
    assert protocols.selection(module.Settings().model_dump()) == "last"
    assert (
        protocols.selection(module.Settings(selection="best_val_micro_f1").model_dump())
        == "best_val_micro_f1"
    )
    assert protocols.selection(module.Settings(finetuning={}).model_dump()) == "best_val_loss"


STUDY = {
    "title": "Tiny",
    "seeds": [0],
    "datasets": {"digit_scenes": {"train": 64, "val": 32, "test": 32, "canvas": 16}},
    "encoders": {"image": {"cnn": {"width": 4}}},
    "losses": {
        "mulsupcon": {
            "protocol": "momentum_queue",
            "training": {"queue_size": 32, "finetuning": {"epochs": 1, "steps_per_epoch": 2}},
        },
        "jaccard": {"training": {"selection": "best_val_micro_f1"}},
        "bce": {},
    },
    "baselines": ["random_encoder"],
    "training": {"epochs": 2, "batch_size": 32, "steps_per_epoch": 2},
    "readouts": ["head", "knn"],
    "knn_evaluation": {"neighbours": [3, 5]},
}


@SLOW
def test_records_name_the_rule_and_have_each_readout_of_the_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"):
        monkeypatch.setenv(variable, "1")
    Path("tiny.yaml").write_text(yaml.safe_dump(STUDY))
    made = make_plan(Path("tiny.yaml"))
    made.write()
    prepare_dataset(made.paths.dataset_request("digit_scenes"))
    expected = {
        "mulsupcon": "best_val_loss",
        "jaccard": "best_val_micro_f1",
        "bce": "last",
        "random_encoder": None,
    }
    for loss, rule in expected.items():
        log = io.StringIO()
        planned = made.by_id[f"digit_scenes/cnn/{loss}/base/seed0"].cell
        record = make_cell(made.paths.request(planned.id), log)
        assert record.status == "ok", (record.reason, log.getvalue())
        assert record.result["selection"] == rule
        assert all(0 <= splits["test"]["micro_f1"] <= 1 for splits in record.metrics.values())
        with_head = loss in ("mulsupcon", "bce")
        assert list(record.metrics) == (["head", "knn"] if with_head else ["knn"])


def test_no_more_rows_at_once_than_in_training(
    images: PreparedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fits into memory in training is what fits after it."""
    from mlcl.training.inputs.batches import Images

    taken: list[int] = []
    take = Images.take
    monkeypatch.setattr(
        Images, "take", lambda self, rows, device: taken.append(len(rows)) or take(self, rows, device)
    )
    run(cell(images, "mulsupcon", training={"micro_batch_size": 9, "selection": "best_val_loss"}), images)
    assert max(taken) == 9
