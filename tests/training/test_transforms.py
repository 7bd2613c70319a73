"""Augmentation as a study writes it: known names, checked settings, at planning; and where it is applied."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pydantic import ValidationError
from tiny import cell, run

from mlcl.data import PreparedDataset
from mlcl.errors import ConfigError
from mlcl.study.plan import make_plan
from mlcl.training.inputs import batches, transforms
from mlcl.training.settings import TrainingSettings


def test_a_list_is_checked_and_its_defaults_filled_in() -> None:
    given = [
        "flip",
        {"cutout": {"share": 0.25}},
        {"rand_augment": None},
        {"random_resized_crop": {"scale": [0.5, 1]}},
    ]
    written = TrainingSettings(augmentation=given).model_dump(mode="json")["augmentation"]
    assert written == [
        {"flip": {"p": 0.5}},
        {"cutout": {"share": 0.25}},
        {"rand_augment": {"num_ops": 2, "magnitude": 9}},
        {"random_resized_crop": {"scale": [0.5, 1.0], "ratio": [3 / 4, 4 / 3]}},
    ]
    assert TrainingSettings(augmentation=written).augmentation == written
    pictures = torch.randint(256, (5, 12, 10, 3), dtype=torch.uint8)
    changed = transforms.build(written)(pictures, torch.Generator().manual_seed(0))
    assert changed.shape == pictures.shape
    assert not torch.equal(changed, pictures)


WRONG: list[tuple[Any, str]] = [
    ("randaugmnt", "no augmentation 'randaugmnt'; did you mean randaugment"),
    ("mixup", "no augmentation 'mixup'; valid are basic, crop_flip"),
    (3, "a name or a list of transforms"),
    ([{"cutuot": {}}], "no transform 'cutuot'; did you mean cutout?"),
    ([{"cutout": {"size": 3}}], "cutout.size: unknown key; valid are share"),
    ([{"cutout": {"share": 1.5}}], "cutout.share: Input should be less than or equal to 1"),
    ([{"flip": {"p": -1}}], "flip.p: "),
    ([{"rand_augment": {"magnitude": 31}}], "rand_augment.magnitude: "),
    ([{"random_resized_crop": {"scale": [1, 0.5]}}], "scale goes from 1 to 0.5"),
    ([{"flip": {}, "cutout": {}}], "each transform is a name with its settings"),
    ([7], "each transform is a name with its settings"),
]


@pytest.mark.parametrize(("given", "told"), WRONG)
def test_what_is_wrong_is_told(given: Any, told: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TrainingSettings(augmentation=given)
    (defect,) = caught.value.errors()
    assert defect["loc"] == ("augmentation",)
    assert told in defect["msg"]


@pytest.mark.parametrize("where", ["training", "encoders.image.cnn.training", "losses.bce.training"])
def test_planning_names_file_and_key(tmp_path: Path, where: str) -> None:
    study: dict[str, Any] = {
        "title": "A study",
        "datasets": {"digit_scenes": {"train": 10}},
        "encoders": {"image": {"cnn": {}}},
        "losses": {"bce": {}},
    }
    inner = study
    for key in where.split("."):
        inner = inner.setdefault(key, {})
    inner["augmentation"] = [{"cutuot": {}}]
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(study))
    with pytest.raises(ConfigError) as caught:
        make_plan(file)
    assert str(caught.value).startswith(f"{file}: {where}.augmentation: ")
    assert "did you mean cutout" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_checking_is_light() -> None:
    check = (
        "import sys, mlcl.training.settings, mlcl.training.protocols, mlcl.training.events; "
        "print('torch' in sys.modules, 'torchvision' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_only_training_views_are_augmented(images: PreparedDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blackened training images leave those that are evaluated as they are."""
    seen: list[tuple[bool, float]] = []
    form = batches.Images.form

    def spied(self: batches.Images, tensors: batches.Tensors) -> torch.Tensor:
        formed = form(self, tensors)
        seen.append((torch.is_grad_enabled(), float(formed.max())))
        return formed

    monkeypatch.setattr(batches.Images, "form", spied)
    black = [{"cutout": {"share": 1.0}}, {"cutout": {"share": 1.0}}, {"cutout": {"share": 1.0}}]
    settings = cell(images, "jaccard", training={"augmentation": black, "selection": "best_val_micro_f1"})
    plain = cell(images, "jaccard", training={"selection": "best_val_micro_f1"})
    monkeypatch.setattr(
        transforms, "build", lambda spec: lambda pictures, generator: torch.zeros_like(pictures)
    )
    run(settings, images)
    trained = [brightest for training, brightest in seen if training]
    evaluated = [brightest for training, brightest in seen if not training]
    assert trained[:6] == [0.0] * 6  # two epochs of three batches
    assert evaluated
    assert min(evaluated) > 0.5
    seen.clear()
    run(plain, images)
    assert min(brightest for _, brightest in seen) > 0.5


def test_masked_entries_become_the_column_s_mean() -> None:
    vectors, means = torch.randn(4000, 3) + 5, torch.tensor([1.0, 2.0, 3.0])
    masked = transforms.mask_features(0.3, means)(vectors, torch.Generator().manual_seed(0))
    changed = masked != vectors
    assert 0.28 < changed.float().mean() < 0.32
    assert torch.equal(masked[changed], means.expand_as(vectors)[changed])
