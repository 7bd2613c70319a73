"""Protocols: the papers' values, what a study may set, which combinations are allowed, and that each one learns."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from tiny import cell, labels, only_scores, run
from torch import Tensor

from mlcl import losses
from mlcl.data import PreparedDataset
from mlcl.errors import ConfigError
from mlcl.evaluation.metrics import evaluate, mean_average_precision
from mlcl.records.outline import SkippedRow
from mlcl.study.plan import Plan, make_plan
from mlcl.training import fit, protocols
from mlcl.training.context import Context
from mlcl.training.inputs import sampling, transforms
from mlcl.training.inputs.batches import TrainingSet
from mlcl.training.methods import Method
from mlcl.training.outcome import Outcome
from mlcl.training.settings import CellSettings

COMPREHENSIVE = {
    "optimizer": "adamw",
    "weight_decay": 0.01,
    "learning_rate": 5e-5,
    "schedule": "cosine",
    "warmup": 0.05,
    "gradient_clip": 1.0,
    "batch_size": 256,
    "epochs": 80,
    "augmentation": "basic",
    "ema_decay": None,
    "selection": "last",
}
PAPERS: dict[str, dict[str, Any]] = {
    "contrastive_linear": COMPREHENSIVE | {"projection_dim": 256},
    "end_to_end": COMPREHENSIVE | {"head_dropout": 0.1},
    "joint": {
        "optimizer": "adamw",
        "learning_rate": 2e-5,
        "weight_decay": 0.0,
        "schedule": "linear",
        "warmup": 0.1,
        "gradient_clip": 1.0,
        "batch_size": 32,
        "epochs": 20,
        "head_dropout": 0.1,
    },
    "momentum_queue": {
        "optimizer": "adam",
        "learning_rate": 4e-4,
        "weight_decay": 1e-5,
        "schedule": "cosine",
        "warmup": 0.0,
        "gradient_clip": None,
        "epochs": 150,
        "steps_per_epoch": 1000,
        "batch_size": 64,
        "queue_size": 256,
        "projection_dim": 256,
        "momentum": 0.999,
        "feature_masking": 0.5,
        "augmentation": "crop_flip",
        "finetuning": None,
        "selection": "last",
    },
    "kmcl": {
        "optimizer": "adam",
        "learning_rate": 2e-4,
        "weight_decay": 1e-4,
        "schedule": "one_cycle",
        "warmup": 0.2,
        "gradient_clip": None,
        "epochs": 40,
        "batch_size": 64,
        "ema_decay": 0.9997,
        "ema_evaluation": "best_val_map",
        "augmentation": "cutout_randaugment",
        "selection": "last",
    },
}
FINETUNING = {
    "optimizer": "adam",
    "learning_rate": 4e-4,
    "weight_decay": 0.0,
    "epochs": 30,
    "steps_per_epoch": 50,
    "batch_size": 32,
    "selection": "best_val_loss",
}
TRAINED = sorted(PAPERS)


@pytest.mark.parametrize("name", TRAINED)
def test_defaults_are_the_papers_values(name: str) -> None:
    ours = protocols.load(name).Settings().model_dump()
    assert {key: ours[key] for key in PAPERS[name]} == PAPERS[name]


def test_finetuning_s_defaults_are_those_of_mulsupcon_s_code() -> None:
    ours = protocols.load("momentum_queue").Settings(finetuning={}).model_dump()["finetuning"]
    assert {key: ours[key] for key in FINETUNING} == FINETUNING


def test_temperatures_are_those_of_the_papers() -> None:
    found = {name: losses.describe(name).hyperparameters.get("temperature") for name in losses.names()}
    assert found["simdissim"] == 0.07
    assert found["kmcl"] == 0.17
    for name in (
        "mulsupcon",
        "supcon_all",
        "supcon_any",
        "jaccard",
        "reg",
        "reg_ablated",
        "abalone",
        "prototype",
    ):
        assert found[name] == 0.1, name
    assert losses.describe("abalone").hyperparameters["beta"] == 0.1


# What a study may set, and where

STUDY: dict[str, Any] = {
    "title": "A study",
    "seeds": [0],
    "datasets": {"digit_scenes": {"train": 100}},
    "encoders": {"image": {"cnn": {}}},
    "losses": {"mulsupcon": {}},
}


def plan(folder: Path, **changes: Any) -> Plan:
    file = folder / "mine.yaml"
    file.write_text(yaml.safe_dump(STUDY | changes, sort_keys=False))
    return make_plan(file)


def settings(made: Plan, name: str) -> CellSettings:
    return made.by_id[name].cell.settings


ANOTHER: dict[str, Any] = {
    "epochs": 3,
    "steps_per_epoch": 7,
    "batch_size": 10,
    "micro_batch_size": 5,
    "optimizer": "sgd",
    "learning_rate": 0.5,
    "weight_decay": 0.25,
    "schedule": "constant",
    "warmup": 0.4,
    "gradient_clip": 2.5,
    "ema_decay": 0.5,
    "ema_warmup": True,
    "ema_evaluation": "best_val_map",
    "augmentation": "randaugment",
    "selection": "best_val_micro_f1",
    "projection_dim": 12,
    "head_dropout": 0.3,
    "queue_size": 77,
    "momentum": 0.9,
    "finetuning": {"epochs": 2, "learning_rate": 0.1},
}
OTHER_MODALITIES = {"feature_masking", "length_bucketing"}
LOSS_OF = {"embeddings": "mulsupcon", "logits": "bce", "both": "joint", "features": "kmcl"}


@pytest.mark.parametrize("level", ["study", "encoder", "loss", "variant"])
@pytest.mark.parametrize("name", TRAINED)
def test_every_setting_can_be_set_on_every_level(tmp_path: Path, name: str, level: str) -> None:
    protocol = protocols.load(name)
    loss = LOSS_OF[protocol.LOSS_INPUTS[0]]
    known = protocol.Settings.model_fields
    assert set(known) <= set(ANOTHER) | OTHER_MODALITIES, "a new setting: add it here"
    given = {key: value for key, value in ANOTHER.items() if key in known}
    changes: dict[str, Any] = {"losses": {loss: {"protocol": name}}}
    variant = "base"
    match level:
        case "study":
            changes["training"] = given
        case "encoder":
            changes["encoders"] = {"image": {"cnn": {"training": given}}}
        case "loss":
            changes["losses"][loss]["training"] = given
        case "variant":
            variant = "other"
            changes["variants"] = {"other": {"training": given}}
    found = settings(plan(tmp_path, **changes), f"digit_scenes/cnn/{loss}/{variant}/seed0")
    assert found.protocol == name
    assert found.training is not None
    for key, value in given.items():
        if key == "finetuning":
            assert value.items() <= found.training[key].items()
        else:
            assert found.training[key] == value, key
    assert not OTHER_MODALITIES & set(found.training), "an image has no tokens and no columns"


def test_a_cell_has_no_settings_that_it_does_not_use(tmp_path: Path) -> None:
    made = plan(
        tmp_path,
        datasets={"digit_scenes": {"train": 100}, "scipy_docs": {"train": 100}},
        encoders={"image": {"cnn": {}}, "text": {"transformer": {}}},
        losses={
            "bce": {},
            "mulsupcon": {"protocol": "momentum_queue"},
            "supcon_any": {"protocol": "momentum_queue", "training": {"finetuning": {"epochs": 2}}},
            "kmcl": {},
        },
        baselines=["label_prior", "random_encoder"],
        training={
            "augmentation": "randaugment",
            "queue_size": 5,
            "length_bucketing": True,
            "ema_warmup": True,
        },
    )
    image = {loss: settings(made, f"digit_scenes/cnn/{loss}/base/seed0") for loss in made.study.losses}
    text = {loss: settings(made, f"scipy_docs/transformer/{loss}/base/seed0") for loss in made.study.losses}
    for cells in (image, text):
        assert cells["bce"].readouts == cells["kmcl"].readouts == ["head", "linear"]
        assert cells["mulsupcon"].readouts == ["linear"]
        assert cells["supcon_any"].readouts == ["head", "linear"], "fine-tuning has a head of its own"
        assert all(own.linear_evaluation is not None for own in cells.values())
        assert all(own.knn_evaluation is None for own in cells.values())
        assert "queue_size" not in (cells["bce"].training or {})
        assert (cells["mulsupcon"].training or {})["queue_size"] == 5
        assert (cells["kmcl"].training or {})["ema_warmup"] is True
        without = [
            cells["bce"].training,
            cells["supcon_any"].training,
            cells["supcon_any"].training["finetuning"],
        ]
        assert not any({"ema_warmup", "ema_evaluation"} & set(training) for training in without)
    for found in image.values():
        assert found.training is not None
        assert found.training["augmentation"] == "randaugment"
        assert "length_bucketing" not in found.training
    for found in text.values():
        assert found.training is not None
        assert found.training["length_bucketing"] is True
        assert not {"augmentation", "feature_masking"} & set(found.training)
    assert not {"augmentation", "feature_masking"} & set((text["supcon_any"].training or {})["finetuning"])
    assert settings(made, "digit_scenes/none/label_prior/base/seed0").training is None
    assert settings(made, "digit_scenes/cnn/random_encoder/base/seed0").training is None


def test_a_cell_has_the_readouts_that_its_encoder_can_have(tmp_path: Path) -> None:
    changes = {"knn_evaluation": {"neighbours": [3]}, "losses": {"mulsupcon": {}, "bce": {}}}
    baselines = ["random_encoder", "label_prior"]
    made = plan(tmp_path, baselines=baselines, readouts=["knn", "head"], **changes)
    for loss in ("mulsupcon", "random_encoder", "bce"):
        found = settings(made, f"digit_scenes/cnn/{loss}/base/seed0")
        assert found.readouts == (["head", "knn"] if loss == "bce" else ["knn"])
        assert found.linear_evaluation is None
        assert found.knn_evaluation is not None
        assert found.knn_evaluation.neighbours == [3]
    prior = settings(made, "digit_scenes/none/label_prior/base/seed0")
    assert prior.readouts == []
    assert prior.knn_evaluation is None
    assert made.outline().readout == "knn", "all losses have it"


def test_what_a_cell_does_not_use_does_not_make_it_stale(tmp_path: Path) -> None:
    """Another order, and a readout that the cell cannot have, leave its fingerprint as it is."""

    def fingerprints(readouts: list[str]) -> dict[str, str | None]:
        made = plan(tmp_path, losses={"jaccard": {}, "bce": {}}, baselines=["label_prior"], readouts=readouts)
        return {str(planned.cell.id.loss): planned.fingerprint for planned in made.cells}

    both, reordered, linear = (fingerprints(r) for r in (["head", "linear"], ["linear", "head"], ["linear"]))
    assert both == reordered
    assert {loss for loss in both if both[loss] != linear[loss]} == {"bce"}


def test_a_loss_without_a_head_is_skipped_where_the_head_is_the_only_readout(tmp_path: Path) -> None:
    made = plan(tmp_path, losses={"jaccard": {}, "bce": {}}, baselines=["random_encoder"], readouts=["head"])
    assert [(skip.loss, skip.reason) for skip in made.skips] == [
        (loss, f"{loss} trains no head, and head is the study's only readout")
        for loss in ("random_encoder", "jaccard")
    ]
    assert made.outline().readout == "head"


def test_a_variant_that_changes_nothing_here_is_skipped_with_the_reason(tmp_path: Path) -> None:
    made = plan(
        tmp_path,
        datasets={"digit_scenes": {"train": 100}, "scipy_docs": {"train": 100}},
        encoders={"image": {"cnn": {}}, "text": {"transformer": {}}},
        losses={"bce": {}, "jaccard": {}},
        variants={
            "crops": {"training": {"augmentation": "crop_flip"}},
            "grid": {"linear_evaluation": {"heads": 1}},
        },
    )
    assert set(made.skips) == {
        SkippedRow("scipy_docs", "transformer", "bce", "crops", "augmentation: not for the modality 'text'"),
        SkippedRow(
            "scipy_docs", "transformer", "jaccard", "crops", "augmentation: not for the modality 'text'"
        ),
    }


TEXT = {"datasets": {"scipy_docs": {"train": 100}}, "encoders": {"text": {"transformer": {}}}}
FROZEN = {"encoders": {"image": {"cnn": {"freeze": True}}}}
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"training": {"epochz": 3}}, r"training\.epochz: unknown key; did you mean epochs"),
    (
        {"losses": {"mulsupcon": {"training": {"queue": 3}}}},
        r"losses\.mulsupcon\.training\.queue: unknown key",
    ),
    (
        {"losses": {"mulsupcon": {"training": {"epochs": 0}}}},
        r"losses\.mulsupcon\.training\.epochs: .*greater than 0",
    ),
    (
        {
            "losses": {
                "mulsupcon": {"protocol": "momentum_queue", "training": {"finetuning": {"warmup": 3}}}
            }
        },
        r"losses\.mulsupcon\.training\.finetuning\.warmup: ",
    ),
    (
        {"losses": {"prototype": {"protocol": "momentum_queue"}}},
        r"losses\.prototype: momentum_queue cannot train it: .*cannot use the queue; set losses\.prototype\.protocol",
    ),
    ({"losses": {"bce": {"protocol": "momentum_queue"}}}, r"losses\.bce\.protocol: .*called with logits"),
    ({"losses": {"kmcl": {"protocol": "end_to_end"}}}, r"losses\.kmcl\.protocol: .*called with features"),
    ({"protocols": {"embeddings": "kmcl"}}, r"protocols\.embeddings: kmcl trains losses of features and logits"),
    (
        FROZEN | {"losses": {"kmcl": {}}},
        r"encoders\.image\.cnn\.freeze: .*augmentation cannot be 'cutout_randaugment' \(kmcl's default or set in the "
        r"study\); set encoders\.image\.cnn\.training\.augmentation: basic",
    ),
    (FROZEN | {"training": {"augmentation": "crop_flip"}}, r"freeze: .*augmentation cannot be 'crop_flip'"),
    (
        FROZEN | {"protocols": {"embeddings": "momentum_queue"}},
        r"encoders\.image\.cnn\.freeze: momentum_queue cannot train it: it needs two views",
    ),
    (
        {"encoders": {"image": {"cnn": {"freeze": True, "training": {"feature_masking": 0.5}}}}},
        r"encoders\.image\.cnn\.training\.feature_masking: is for the modality 'vector' only",
    ),
    (
        TEXT | {"encoders": {"text": {"transformer": {"training": {"augmentation": "randaugment"}}}}},
        r"encoders\.text\.transformer\.training\.augmentation: is for the modality 'image' only",
    ),
    (TEXT | {"training": {"augmentation": "randaugment"}}, r"training\.augmentation: is for the modality 'image'"),
    (
        {"losses": {"bce": {"training": {"length_bucketing": True}}}},
        r"losses\.bce\.training\.length_bucketing: is for the modality 'text' only, and the encoder here is for image",
    ),
    (
        {"readouts": ["knn"], "variants": {"v": {"linear_evaluation": {"heads": 1}}}},
        r"variants\.v\.linear_evaluation: linear is not among the study's readouts",
    ),
    ({"evaluation": "knn"}, r"evaluation: is now 'readouts', a list of head, linear and knn \(readouts: \[knn\]\)"),
    ({"table": {"readout": "knn"}}, r"table\.readout: 'knn' is not among the study's readouts"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "told"), REFUSED)
def test_incompatible_combinations_are_errors_at_planning(
    tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        plan(tmp_path, **changes)
    assert "\n" not in str(caught.value)


NEUTRAL = {"augmentation": "basic", "feature_masking": 0, "length_bucketing": False}


@pytest.mark.parametrize(
    "changes",
    [
        TEXT | {"encoders": {"text": {"transformer": {"training": NEUTRAL}}}},
        TEXT | {"losses": {"kmcl": {}, "mulsupcon": {"protocol": "momentum_queue"}}},
        {"encoders": {"image": {"cnn": {"freeze": True, "training": NEUTRAL}}}, "losses": {"kmcl": {}}},
        TEXT | {"encoders": {"text": {"transformer": {"freeze": True}}}, "losses": {"kmcl": {}}},
        {"training": NEUTRAL},
    ],
)
def test_values_that_change_nothing_may_be_written_down(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert plan(tmp_path, **changes).cells


# Every loss in its protocol


class Spy:
    """What the losses have in common: what training begins with, and what it is shown."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.encoder: dict[str, Tensor] = {}
        self.rows: list[np.ndarray] = []
        self.views: list[Tensor] = []
        self.orders: list[list[int]] = []
        original, view, epoch_batches = fit.fit, TrainingSet.view, sampling.epoch_batches
        spy = self

        def fitted(context: Context, method: Method, *rest: Any, **more: Any) -> Any:
            spy.encoder = deepcopy(method.encoder.state_dict())
            spy.rows.append(context.train_rows)
            return original(context, method, *rest, **more)

        def viewed(data: TrainingSet, gathered: Any, generator: torch.Generator) -> Any:
            spy.views.append(view(data, gathered, generator))
            return spy.views[-1]

        def ordered(*given: Any) -> list[np.ndarray]:
            batches: list[np.ndarray] = epoch_batches(*given)
            spy.orders.append([int(row) for batch in batches for row in batch])
            return batches

        monkeypatch.setattr(fit, "fit", fitted)
        monkeypatch.setattr(TrainingSet, "view", viewed)
        monkeypatch.setattr(sampling, "epoch_batches", ordered)


def with_half(
    dataset: PreparedDataset, loss: str, protocol: str | None = None, **training: Any
) -> CellSettings:
    """Two epochs of two batches from half the rows."""
    return cell(
        dataset,
        loss,
        protocol,
        training={"augmentation": "basic", "feature_masking": 0.3} | training,
        dataset={"source": dataset.name, "settings": {}, "subset": {"fraction": 0.5}},
    )


def finite(outcome: Outcome) -> bool:
    assert outcome.fitted is not None
    return all(np.isfinite(line.loss) for line in outcome.fitted.curve) and all(
        np.isfinite(values).all()
        for part in (only_scores(outcome), outcome.features)
        for values in part.values()
    )


def test_every_loss_trains_on_equal_terms(vectors: PreparedDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Subset, initial encoder, order of batches and augmented views are the same for all losses of the registry."""
    seen: dict[str, Spy] = {}
    for name in losses.names():
        with monkeypatch.context() as patched:
            seen[name] = Spy(patched)
            outcome = run(with_half(vectors, name, batch_size=15), vectors)
        assert finite(outcome), name
        assert [line.step for line in outcome.fitted.curve] == [2, 4]  # type: ignore[union-attr]
        after = outcome.fitted.method.encoder.state_dict()  # type: ignore[union-attr]
        assert any(not torch.equal(after[key], value) for key, value in seen[name].encoder.items()), name
    first, *others = seen.values()
    assert len(others) > 10
    assert len(first.rows[0]) == 30
    for other in others:
        assert first.encoder.keys() == other.encoder.keys()
        assert all(torch.equal(value, other.encoder[key]) for key, value in first.encoder.items())
        assert np.array_equal(first.rows[0], other.rows[0])
        assert first.orders == other.orders
        assert all(torch.equal(one, two) for one, two in zip(first.views, other.views, strict=True))


def test_another_seed_has_other_initial_weights(
    vectors: PreparedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    for seed in (0, 1):
        with monkeypatch.context() as patched:
            seen.append(Spy(patched))
            run(cell(vectors, "bce", seed=seed, training={"feature_masking": 0.3}), vectors)
    assert seen[0].orders != seen[1].orders
    assert any(not torch.equal(value, seen[1].encoder[key]) for key, value in seen[0].encoder.items())
    assert not torch.equal(seen[0].views[0], seen[1].views[0])


@pytest.mark.parametrize(
    ("protocol", "loss"),
    [
        ("momentum_queue", loss)
        for loss in losses.names()
        if losses.describe(loss).inputs == "embeddings" and "batch" in losses.describe(loss).references
    ]
    + [("kmcl", loss) for loss in losses.names() if losses.describe(loss).inputs == "logits"],
)
def test_every_loss_trains_in_its_protocols(vectors: PreparedDataset, protocol: str, loss: str) -> None:
    outcome = run(with_half(vectors, loss, protocol, batch_size=15), vectors)
    assert finite(outcome)
    assert all(line.learning_rate > 0 for line in outcome.fitted.curve)  # type: ignore[union-attr]


# Every protocol learns


def better_than_prior(dataset: PreparedDataset, outcome: Outcome) -> bool:
    truth = labels(dataset, "test")
    prior = np.tile(labels(dataset, "train").mean(0), (len(truth), 1)).astype(np.float32)
    return evaluate(truth, only_scores(outcome)["test"])["map"] > evaluate(truth, prior)["map"] + 0.15


LONG = {"epochs": 25, "learning_rate": 0.02, "ema_decay": None, "augmentation": "basic"}


@pytest.mark.parametrize(
    ("loss", "protocol", "training"),
    [
        ("mulsupcon", "contrastive_linear", {}),
        ("bce", "end_to_end", {}),
        ("joint", "joint", {}),
        ("mulsupcon", "momentum_queue", {"queue_size": 32, "momentum": 0.9, "feature_masking": 0.2}),
        ("kmcl", "kmcl", {}),
        ("asl", "kmcl", {}),
        ("kmcl", "kmcl", {"ema_decay": 0.9}),
    ],
)
def test_every_protocol_learns(
    vectors: PreparedDataset, loss: str, protocol: str, training: dict[str, Any]
) -> None:
    assert better_than_prior(vectors, run(cell(vectors, loss, protocol, training=LONG | training), vectors))


def test_untrained_baselines_are_not_better_than_the_prior(vectors: PreparedDataset) -> None:
    """The bar above is one that can be missed."""
    settings = cell(vectors, None, "label_prior")
    assert not better_than_prior(vectors, run(settings, vectors))


# KMCL's recipe


def kmcl(dataset: PreparedDataset, loss: str = "kmcl", **training: Any) -> CellSettings:
    steady = {"schedule": "constant", "warmup": 0.0, "augmentation": "basic", "steps_per_epoch": 1}
    return cell(dataset, loss, "kmcl", training=steady | training)


@pytest.mark.parametrize("loss", ["kmcl", "bce"])
def test_the_moving_average_of_the_steps_is_evaluated(vectors: PreparedDataset, loss: str) -> None:
    """Trainings of 1, 2, 3 and 4 steps share their beginning: from their weights the average follows by hand."""
    decay, steps = 0.6, 4
    start: list[dict[str, Tensor]] = []
    original = fit.fit

    def spied(context: Context, method: Method, *rest: Any, **more: Any) -> Any:
        start.append(deepcopy(method.state_dict()))
        return original(context, method, *rest, **more)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(fit, "fit", spied)
        raw = [run(kmcl(vectors, loss, epochs=n, ema_decay=None), vectors) for n in range(1, steps + 1)]
    averaged = run(kmcl(vectors, loss, epochs=steps, ema_decay=decay, ema_evaluation="always"), vectors)
    expected = dict(start[0])
    for outcome in raw:
        weights = outcome.fitted.method.state_dict()  # type: ignore[union-attr]
        expected = {
            key: decay * value + (1 - decay) * weights[key] if value.is_floating_point() else weights[key]
            for key, value in expected.items()
        }
    ours = averaged.fitted.method.state_dict()  # type: ignore[union-attr]
    assert ours.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.allclose(ours[key], value, atol=1e-5), key
    assert not np.allclose(only_scores(averaged)["test"], only_scores(raw[-1])["test"], atol=1e-3)
    method = averaged.fitted.method  # type: ignore[union-attr]
    head = method.criterion.pi if loss == "kmcl" else method.classifier[-1]
    test = torch.from_numpy(np.array(vectors["test"].vectors))
    with torch.no_grad():
        scores = torch.sigmoid(head(method.eval().encoder(test)))
    assert np.allclose(only_scores(averaged)["test"], scores.numpy(), atol=1e-6)


@pytest.mark.parametrize("loss", ["kmcl", "bce"])
def test_averaged_and_plain_weights_compete_on_validation(vectors: PreparedDataset, loss: str) -> None:
    """A few steps with the paper's decay leave the average at the initial weights; with a small one it follows."""
    training: dict[str, Any] = {"epochs": 25, "steps_per_epoch": 2, "learning_rate": 0.05}
    plain = run(kmcl(vectors, loss, ema_decay=None, **training), vectors)
    for decay, warmup, chosen in ((0.9997, False, "plain"), (0.9997, True, None), (0.1, False, None)):
        average = {"ema_decay": decay, "ema_warmup": warmup, **training}
        competing = run(kmcl(vectors, loss, **average), vectors)
        averaged = run(kmcl(vectors, loss, ema_evaluation="always", **average), vectors)
        by_name = {"plain": plain, "averaged": averaged}
        truth = vectors["val"].dense_labels()
        values = {
            name: mean_average_precision(truth, only_scores(each)["val"]) for name, each in by_name.items()
        }
        found = competing.diagnostics["ema"]
        assert found["val_map"] == pytest.approx(values, abs=1e-6)
        best = "plain" if values["plain"] > values["averaged"] else "averaged"
        assert found["evaluated"] == best
        assert best == (chosen or best)
        assert np.array_equal(only_scores(competing)["test"], only_scores(by_name[best])["test"])
        assert "ema" not in averaged.diagnostics


def test_each_epoch_s_better_weights_are_candidates_of_the_selection(vectors: PreparedDataset) -> None:
    """By the rule `best_val_loss`: of the losses of either's better weights the lowest."""
    training = {"epochs": 3, "learning_rate": 0.05, "ema_decay": 0.5, "selection": "best_val_loss"}
    competing = run(kmcl(vectors, "bce", **training), vectors)
    rows = []
    for epochs in range(1, 4):
        last = training | {"epochs": epochs, "selection": "last"}
        rows.append(run(kmcl(vectors, "bce", **last), vectors))
    assert competing.fitted is not None
    losses = [line.val_loss for line in competing.fitted.curve]
    best = rows[int(np.argmin(np.array(losses, dtype=float)))]
    assert np.array_equal(only_scores(competing)["test"], only_scores(best)["test"])
    assert competing.diagnostics["ema"]["val_map"] == best.diagnostics["ema"]["val_map"]


def test_all_heads_of_the_loss_are_trained(vectors: PreparedDataset) -> None:
    one, two = (run(kmcl(vectors, epochs=n, ema_decay=None), vectors).fitted for n in (1, 2))
    assert one is not None
    assert two is not None
    after = two.method.state_dict()
    heads = [key for key in after if key.startswith("criterion.")]
    assert {key.split(".")[1] for key in heads} >= {"pi", "mu", "var"}
    for key in heads:
        assert not torch.equal(one.method.state_dict()[key], after[key]), key


def test_the_learning_rate_goes_through_one_cycle(vectors: PreparedDataset) -> None:
    epochs = 10
    outcome = run(cell(vectors, "kmcl", training={"epochs": epochs, "learning_rate": 0.01}), vectors)
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.Adam([parameter])
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=3 * epochs, pct_start=0.2)
    expected = []
    for _ in range(epochs):
        expected.append(cycle.get_last_lr()[0])
        for _ in range(3):
            optimizer.step()
            cycle.step() if cycle.last_epoch < 3 * epochs - 1 else None
    assert [line.learning_rate for line in outcome.fitted.curve] == pytest.approx(expected)  # type: ignore[union-attr]


def test_kmcl_augments_only_training_images(images: PreparedDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default of the protocol; what is scored are the features of the images as they are."""
    asked: list[Any] = []
    changed: list[int] = []
    build = transforms.build

    def spied(spec: Any) -> Callable[[Tensor, torch.Generator], Tensor]:
        asked.append(spec)
        transform = build(spec)

        def noted(pictures: Tensor, generator: torch.Generator) -> Tensor:
            result = transform(pictures, generator)
            changed.append(int((result != pictures).flatten(1).any(1).sum()))
            return result

        return noted

    monkeypatch.setattr(transforms, "build", spied)
    outcome = run(cell(images, "kmcl", training={"ema_decay": 0.5}), images)
    assert asked == ["cutout_randaugment"]
    assert len(changed) == 6, "two epochs of three batches, and nothing else"
    assert sum(changed) > 0.9 * 6 * 16
    encoder = outcome.fitted.method.encoder.eval()  # type: ignore[union-attr]
    test = torch.from_numpy(np.array(images["test"].images)).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        assert np.allclose(outcome.features["test"], encoder(test).numpy(), atol=1e-5)


def test_losses_on_logits_can_use_kmcl_s_recipe(tmp_path: Path) -> None:
    made = plan(tmp_path, losses={"kmcl": {}, "bce": {}, "asl": {}}, protocols={"logits": "kmcl"})
    found = [settings(made, f"digit_scenes/cnn/{loss}/base/seed0") for loss in ("kmcl", "bce", "asl")]
    assert [item.protocol for item in found] == ["kmcl"] * 3
    assert found[0].training == found[1].training == found[2].training
