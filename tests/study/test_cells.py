"""The grid: which cells a study has, which rows it leaves out, what each cell depends on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from mlcl.errors import ConfigError
from mlcl.records.outline import SkippedRow
from mlcl.records.paths import CellId
from mlcl.study.cells import Cell
from mlcl.study.plan import Plan, make_plan

STUDY = {
    "title": "A study",
    "seeds": [3, 1],
    "datasets": {"digit_scenes": {"train": 100}, "scipy_docs": {"train": 100}},
    "encoders": {"image": {"cnn": None}, "text": {"transformer": None}},
    "losses": {"bce": None, "jaccard": None},
    "baselines": ["random_encoder", "label_prior"],
    "variants": {"warm": {"loss": {"temperature": 0.5}}, "tenth": {"dataset": {"fraction": 0.1}}},
}
PICTURES_ONLY = '''"""A loss for pictures."""
from mlcl.losses import PairWeighting

class PicturesOnly(PairWeighting):
    paper = "none"
    equation = "shared"
    modalities = ("image",)
    temperature: float = 0.1

    def weights(self, pairs):
        return pairs.shared
'''
PLAIN_MODULE = '''"""A module of its own."""
from torch import nn

class Plain(nn.Module):
    paper = "none"
    equation = "0"

    def __init__(self, num_labels, embedding_dim=None, generator=None):
        super().__init__()

    def forward(self, embeddings, labels):
        return 0 * embeddings.sum()
'''


def plan(folder: Path, **changes: object) -> Plan:
    file = folder / "mine.yaml"
    file.write_text(yaml.safe_dump(STUDY | changes, sort_keys=False))
    return make_plan(file)


def ids(made: Plan) -> list[str]:
    return [str(planned.cell.id) for planned in made.cells]


def cell(made: Plan, name: str) -> Cell:
    return made.by_id[name].cell


def test_the_grid_is_the_product_of_what_is_listed(tmp_path: Path) -> None:
    made = plan(tmp_path)
    per_dataset = 2 * (1 + 1 + 2 + 3)  # label_prior, random_encoder; bce: base, tenth; jaccard: all three
    assert len(ids(made)) == len(set(ids(made))) == 2 * per_dataset
    assert "digit_scenes/none/label_prior/base/seed3" in ids(made)
    assert "scipy_docs/transformer/random_encoder/base/seed1" in ids(made)
    assert "scipy_docs/transformer/jaccard/warm/seed1" in ids(made)
    assert not [name for name in ids(made) if name.startswith("digit_scenes/transformer")]


def test_a_variant_that_a_loss_cannot_have_is_skipped_with_the_reason(tmp_path: Path) -> None:
    skipped = plan(tmp_path).skips
    assert SkippedRow("digit_scenes", "cnn", "bce", "warm", "bce has no temperature") in skipped
    assert len(skipped) == 2


def test_a_modality_that_a_loss_excludes_is_skipped_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "pictures.py").write_text(PICTURES_ONLY)
    made = plan(tmp_path, losses={"pictures": {"file": "pictures.py"}}, variants={})
    assert "digit_scenes/cnn/pictures/base/seed1" in ids(made)
    assert [(skip.dataset, skip.reason) for skip in made.skips] == [
        ("scipy_docs", "pictures is not made for the modality 'text'")
    ]


def test_a_loss_that_takes_no_references_is_skipped_under_the_queue(tmp_path: Path) -> None:
    """A module of its own declares by its forward what it can be called with; without references there is no queue."""
    (tmp_path / "plain.py").write_text(PLAIN_MODULE)
    losses = {
        "plain": {"file": "plain.py", "protocol": "momentum_queue"},
        "jaccard": {"protocol": "momentum_queue"},
    }
    with pytest.raises(ConfigError, match="forward of plain has no parameter references"):
        plan(tmp_path, losses=losses, variants={})
    (tmp_path / "plain.py").write_text(PLAIN_MODULE.replace("labels)", "labels, references=None)"))
    assert "digit_scenes/cnn/plain/base/seed1" in ids(plan(tmp_path, losses=losses, variants={}))


def test_settings_come_from_the_nearest_place(tmp_path: Path) -> None:
    made = plan(
        tmp_path,
        training={"epochs": 5, "batch_size": 16, "weight_decay": 0.5},
        encoders={"image": {"cnn": {"training": {"epochs": 6}}}, "text": {"transformer": None}},
        losses={"jaccard": {"training": {"batch_size": 32}, "temperature": 0.3}},
        variants={"long": {"training": {"epochs": 60}}},
    )
    base = cell(made, "digit_scenes/cnn/jaccard/base/seed1").settings
    assert base.training is not None
    assert [base.training[key] for key in ("epochs", "batch_size", "weight_decay")] == [6, 32, 0.5]
    assert base.loss is not None
    assert base.loss.hyperparameters["temperature"] == 0.3
    long = cell(made, "digit_scenes/cnn/jaccard/long/seed1").settings
    assert long.training is not None
    assert long.training["epochs"] == 60


@pytest.mark.parametrize(
    ("change", "stale"),
    [
        ({"training": {"epochs": 7}}, {"bce", "jaccard"}),
        ({"linear_evaluation": {"heads": 1}}, {"bce", "jaccard", "random_encoder"}),
        ({"readouts": ["linear"]}, {"bce"}),
        ({"readouts": ["linear", "head"]}, set()),
        ({"table": {"readout": "linear"}}, set()),
        ({"losses": {"bce": None, "jaccard": {"temperature": 0.3}}}, {"jaccard"}),
        ({"compute": {"threads": 2}}, {"bce", "jaccard", "label_prior", "random_encoder"}),
        ({"seeds": [1, 3, 5]}, set()),
        ({"title": "Another"}, set()),
        ({"losses": {"jaccard": None, "bce": None}}, set()),
        ({"table": {"metrics": ["map"]}}, set()),
    ],
)
def test_a_fingerprint_depends_on_what_the_cell_uses(tmp_path: Path, change: dict, stale: set[str]) -> None:
    before = {str(p.cell.id): p.fingerprint for p in plan(tmp_path, variants={}).cells}
    after = {str(p.cell.id): p.fingerprint for p in plan(tmp_path, variants={}, **change).cells}
    changed = {CellId.parse(name).loss for name in before if before[name] != after[name]}
    assert changed == stale
    unchanged = {CellId.parse(name).loss for name in before if before[name] == after[name]}
    assert not changed & unchanged


def test_renaming_the_study_leaves_the_fingerprints(tmp_path: Path) -> None:
    first = plan(tmp_path)
    (tmp_path / "mine.yaml").rename(tmp_path / "other.yaml")
    second = make_plan(tmp_path / "other.yaml")
    assert [p.fingerprint for p in first.cells] == [p.fingerprint for p in second.cells]


@pytest.mark.parametrize(
    "text", ["", "a/b/c/d", "a/b/c/d/seed", "a/b/c/d/seed1/x", "../b/c/d/seed1", "a b/b/c/d/seed1"]
)
def test_what_is_no_cell(text: str) -> None:
    with pytest.raises(ValueError, match="is no cell"):
        CellId.parse(text)


def test_weights_count_by_their_content_not_by_their_place(tmp_path: Path) -> None:
    def fingerprint(folder: str, content: bytes) -> str | None:
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "model.safetensors").write_bytes(content)
        encoders = {
            "image": {"resnet18": {"weights": str(tmp_path / folder)}}, "text": {"transformer": None}
        }  # fmt: skip
        return plan(tmp_path, encoders=encoders).by_id["digit_scenes/resnet18/jaccard/base/seed1"].fingerprint

    first = fingerprint("here", b"one")
    assert fingerprint("there", b"one") == first
    assert fingerprint("elsewhere", b"two") != first


def test_an_encoder_from_random_weights_brings_its_learning_rate(tmp_path: Path) -> None:
    """5e-5 is for fine-tuning; a rate that the study sets anywhere wins."""

    digits = {"variants": {}, "datasets": {"digit_scenes": {"train": 100}}, "training": {"epochs": 3}}

    def rate(loss: str = "bce", **changes: Any) -> float:
        made = plan(tmp_path, **(digits | {"encoders": {"image": {"cnn": None}}} | changes))
        training = next(p.cell.settings.training for p in made.cells if p.cell.id.loss == loss)
        assert training is not None
        return float(training["learning_rate"])

    assert rate() == rate("jaccard") == 5e-3
    assert rate(training={"learning_rate": 0.3}) == 0.3
    assert rate(encoders={"image": {"cnn": {"training": {"learning_rate": 0.2}}}}) == 0.2
    assert rate(losses={"bce": {"training": {"learning_rate": 0.1}}}) == 0.1
    assert rate(encoders={"image": {"cnn": {"freeze": True}}}) == 5e-5, "a layer on stored features"
    assert rate("kmcl", losses={"kmcl": {}}) == 2e-4, "a protocol whose rate is not for fine-tuning keeps it"
