"""RandAugment on batches equals torchvision's on single images."""

from functools import partial

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as tv

from mlcl.training.inputs import randaugment, transforms

OPERATIONS = 14


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """Smooth pictures of middling contrast, uint8 (6, 40, 48, 3)."""
    noise = torch.randint(
        20, 220, (6, 3, 5, 6), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )
    return tv.resize(noise, [40, 48]).permute(0, 2, 3, 1).contiguous()


def difference(ours: torch.Tensor, theirs: torch.Tensor) -> int:
    """The largest, in grey levels; `theirs` is (B, C, H, W)."""
    return int((ours.permute(0, 3, 1, 2).int() - theirs.int()).abs().max())


@pytest.mark.parametrize("factor", [0.1, 0.73, 1.0, 1.27, 1.9])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (randaugment.brightness, tv.adjust_brightness),
        (randaugment.saturation, tv.adjust_saturation),
        (randaugment.contrast, tv.adjust_contrast),
        (randaugment.sharpness, tv.adjust_sharpness),
    ],
)
def test_blends_equal_torchvision_within_one_grey_level(images, ours, theirs, factor) -> None:
    assert difference(ours(images, factor), theirs(images.permute(0, 3, 1, 2), factor)) <= 1


def test_tables_equal_torchvision(images: torch.Tensor) -> None:
    planes = images.permute(0, 3, 1, 2)
    assert difference(randaugment.posterize(images, 4), tv.posterize(planes, 4)) == 0
    assert difference(randaugment.solarize(images, 100), tv.solarize(planes, 100)) == 0
    assert difference(randaugment.equalize(images), tv.equalize(planes)) == 0
    assert difference(randaugment.autocontrast(images), tv.autocontrast(planes)) <= 1
    flat = torch.full((2, 8, 8, 3), 77, dtype=torch.uint8)
    assert (randaugment.autocontrast(flat) == 77).all()
    assert (randaugment.equalize(flat) == 77).all()


@pytest.mark.parametrize("magnitude", [0, 9, 15, 30])
def test_moves_equal_torchvision(images: torch.Tensor, magnitude: int) -> None:
    part = magnitude / 30
    planes = images.permute(0, 3, 1, 2)
    shear = float(np.degrees(np.arctan(0.3 * part)))
    affine = partial(tv.affine, planes, angle=0, scale=1)
    expected = [
        affine(translate=[0, 0], shear=[shear, 0], center=[0, 0]),
        affine(translate=[0, 0], shear=[0, shear], center=[0, 0]),
        affine(translate=[int(150 / 331 * 48 * part), 0], shear=[0, 0]),
        affine(translate=[0, int(150 / 331 * 40 * part)], shear=[0, 0]),
        tv.rotate(planes, 30 * part),
    ]
    ours = randaugment.operations(magnitude, 40, 48)
    for number, theirs in enumerate(expected):
        assert difference(ours[number](images), theirs) == 0, number


def test_bincount_without_sync_equals_torch_bincount() -> None:
    """The one is for GPUs, which bincount would keep the host waiting for."""
    cells = torch.randint(0, 700, (5000,), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    counted = randaugment.bincount_without_sync(cells, minlength=768)
    assert torch.equal(counted, torch.bincount(cells, minlength=768))


def test_all_fourteen_operations_are_drawn_equally_often() -> None:
    choices = randaugment.operations(9, 8, 8)
    assert len(choices) == 2 * OPERATIONS
    names = [getattr(choice, "func", choice).__name__ for choice in choices]
    assert names[:OPERATIONS] == names[OPERATIONS:]
    assert len(set(names)) == 10  # five of them move


def test_each_image_gets_the_operation_it_drew(images: torch.Tensor) -> None:
    generator = torch.Generator().manual_seed(3)
    out = transforms.RandAugment(num_ops=1, magnitude=20)(images, generator)
    drawn = torch.randint(2 * OPERATIONS, (6,), generator=torch.Generator().manual_seed(3))
    choices = randaugment.operations(20, 40, 48)
    for row, number in enumerate(drawn.tolist()):
        assert torch.equal(out[row : row + 1], choices[number](images[row : row + 1]))
