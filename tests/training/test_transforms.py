"""Augmentation: what a study may write, what each transform does, and to which inputs it is applied."""

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
from torchvision.transforms.v2 import functional as tv

from mlcl.data import PreparedDataset
from mlcl.errors import ConfigError
from mlcl.study.plan import make_plan
from mlcl.training.inputs import batches, transforms
from mlcl.training.settings import TrainingSettings


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    """Smooth pictures of middling contrast, uint8 (6, 40, 48, 3)."""
    noise = torch.randint(
        20, 220, (6, 3, 5, 6), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )
    return tv.resize(noise, [40, 48]).permute(0, 2, 3, 1).contiguous()


@pytest.mark.parametrize("name", transforms.NAMED)
def test_augmentation_repeats_with_the_seed_and_differs_between_images(
    pictures: torch.Tensor, name: str
) -> None:
    same = pictures[:1].expand(32, -1, -1, -1).contiguous()
    transform = transforms.NAMED[name]
    first, again, other = (transform(same, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert first.shape == same.shape
    assert first.dtype == torch.uint8
    assert torch.equal(first, again)
    assert (same == pictures[:1]).all()  # the input is left as it was
    if name != "basic":
        assert not torch.equal(first, other)
        assert len({bytes(image.numpy().tobytes()) for image in first}) > 10
    else:
        assert torch.equal(first, same)


def test_grey_images_can_be_augmented() -> None:
    grey = torch.randint(
        0, 256, (40, 16, 16, 1), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )
    for name, transform in transforms.NAMED.items():
        assert transform(grey, torch.Generator().manual_seed(0)).shape == grey.shape, name


def test_cutout_blackens_the_stated_share() -> None:
    white = torch.full((200, 40, 40, 3), 255, dtype=torch.uint8)
    black = (
        (transforms.Cutout(share=0.5)(white, torch.Generator().manual_seed(0)) == 0).float().mean((1, 2, 3))
    )
    assert black.max() == pytest.approx(0.25, abs=0.01)
    assert black.min() >= 0.06  # at least a quarter of the square lies inside


def test_half_of_the_images_are_flipped() -> None:
    steps = torch.arange(8, dtype=torch.uint8)[None, None, :, None].expand(400, 2, 8, 1).contiguous()
    flipped = transforms.Flip()(steps, torch.Generator().manual_seed(0))[:, 0, 0, 0] == 7
    assert 0.4 < flipped.float().mean() < 0.6


def test_crops_show_a_part_of_the_image(pictures: torch.Tensor) -> None:
    column = torch.arange(48, dtype=torch.uint8)[None, None, :, None].expand(64, 40, 48, 1).contiguous()
    cropped = transforms.RandomResizedCrop(scale=(0.2, 0.5))(column, torch.Generator().manual_seed(0)).float()
    spans = cropped[:, 0, -1, 0] - cropped[:, 0, 0, 0]
    assert spans.min() > 48 * 0.3
    assert spans.max() < 48 * 0.85
    whole = transforms.RandomResizedCrop(scale=(1.0, 1.0), ratio=(1.0, 1.0))(
        pictures, torch.Generator().manual_seed(0)
    )
    assert torch.equal(whole, pictures)


# What a study may write


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
def test_wrong_augmentations_are_named(given: Any, told: str) -> None:
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


def test_planning_needs_no_torch() -> None:
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
