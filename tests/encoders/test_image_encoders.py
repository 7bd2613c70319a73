"""Image encoders of torchvision and timm, with random weights: built, trained a step, refused."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from mlcl import encoders
from mlcl.encoders import EncoderError, InputShape
from mlcl.encoders.torchvision_names import TORCHVISION

SMALL = {
    "alexnet": (64, 4096),
    "convnext_tiny": (32, 768),
    "densenet121": (32, 1024),
    "efficientnet_b0": (32, 1280),
    "efficientnet_v2_s": (32, 1280),
    "googlenet": (32, 1024),
    "inception_v3": (75, 2048),
    "mnasnet0_5": (32, 1280),
    "mobilenet_v2": (32, 1280),
    "mobilenet_v3_small": (32, 1024),
    "regnet_x_400mf": (32, 400),
    "resnet18": (32, 512),
    "resnext50_32x4d": (32, 2048),
    "shufflenet_v2_x0_5": (32, 1024),
    "squeezenet1_1": (32, 512),
    "swin_t": (32, 768),
    "swin_v2_t": (32, 768),
    "tresnet_m": (32, 2048),
}
LARGE = {
    "maxvit_t": (224, 512),
    "tresnet_l": (64, 2432),
    "vgg11_bn": (32, 4096),
    "vit_b_32": (32, 768),
    "wide_resnet50_2": (32, 2048),
}
"""A member of each family: the least sensible size of images, the width of its features."""
CASES = [
    *((name, *case) for name, case in SMALL.items()),
    *(pytest.param(name, *case, marks=pytest.mark.slow) for name, case in LARGE.items()),
]


@pytest.mark.parametrize(("name", "size", "feature_dim"), CASES)
def test_a_step_in_channels_last_memory(name: str, size: int, feature_dim: int) -> None:
    torch.manual_seed(0)
    encoder = encoders.create(name, {}, InputShape(channels=3, height=size, width=size))
    encoder.to(memory_format=torch.channels_last)
    assert encoder.training
    images = torch.rand(2, 3, size, size).to(memory_format=torch.channels_last)
    features = encoder(images)
    assert features.shape == (2, feature_dim) == (2, encoder.feature_dim)
    features.square().sum().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())
    assert all(parameter.grad.isfinite().all() for parameter in encoder.parameters())


def test_the_list_is_torchvisions_own() -> None:
    from torchvision import models

    assert list(TORCHVISION) == sorted(models.list_models(module=models))


def test_names_and_shorthands() -> None:
    assert {"resnet18", "vit_b_16", "tresnet_m", "tresnet_l", "torchvision", "timm", "mlp"} <= set(
        encoders.names()
    )
    info = encoders.describe("resnet18")
    assert (info.name, info.modality) == ("torchvision", "image")
    settings = info.settings.model_validate({})
    assert settings.model_dump() == {"model": "resnet18", "weights": None, "revision": None, "freeze": False}
    assert not settings.pretrained
    assert info.settings.model_validate({"weights": "default"}).pretrained
    assert encoders.describe("tresnet_l").name == "timm"
    with pytest.raises(ValueError, match="resnet18"):
        info.settings.model_validate({"model": "resnet50"})
    with pytest.raises(ValueError, match=r"did you mean .*resnet50"):
        encoders.describe("torchvision").settings.model_validate({"model": "resnet5"})


def test_describing_a_shorthand_is_light() -> None:
    check = (
        "import sys; from mlcl import encoders; encoders.describe('vit_b_16').settings(); "
        "encoders.weights_digest('resnet18', {}); "
        "print([m for m in ('torch', 'torchvision', 'timm', 'transformers', 'huggingface_hub') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def features(name: str, settings: dict, images: torch.Tensor, seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    shape = InputShape(channels=images.shape[1], height=images.shape[2], width=images.shape[3])
    with torch.no_grad():
        return encoders.create(name, settings, shape).eval()(images)


@pytest.mark.parametrize("name", ["shufflenet_v2_x0_5", "tresnet_m"])
def test_the_seed_alone_makes_the_encoder(name: str) -> None:
    images = torch.rand(2, 3, 32, 32)
    first = features(name, {}, images)
    torch.rand(5)
    assert torch.equal(first, features(name, {}, images))
    assert not torch.equal(first, features(name, {}, images, seed=1))


def test_the_first_draw_after_building_is_the_networks_own() -> None:
    """Finding out the width of the features draws no random numbers."""
    from torchvision import models

    torch.manual_seed(0)
    encoders.create("mnasnet0_5", {}, InputShape(channels=3, height=32, width=32))
    after = torch.rand(())
    torch.manual_seed(0)
    models.mnasnet0_5(weights=None)
    assert torch.equal(after, torch.rand(()))


def test_grey_images_are_three_equal_channels() -> None:
    grey = torch.rand(2, 1, 32, 32)
    assert torch.equal(
        features("mnasnet0_5", {}, grey), features("mnasnet0_5", {}, grey.expand(-1, 3, -1, -1))
    )


@pytest.mark.parametrize(
    ("name", "mean", "std"),
    [
        ("mnasnet0_5", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("googlenet", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("tresnet_m", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    ],
)
def test_normalisation_is_part_of_the_encoder_and_not_of_its_weights(
    name: str, mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    encoder = encoders.create(name, {}, InputShape(channels=3, height=32, width=32)).eval()
    images = torch.rand(2, 3, 32, 32)
    by_hand = (images - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(encoder(images), encoder.net(by_hand))
    assert all(key.startswith("net.") for key in encoder.state_dict())


def test_the_classifiers_dropout_goes_with_it() -> None:
    encoder = encoders.create("googlenet", {}, InputShape(channels=3, height=32, width=32))
    assert not [m for m in encoder.modules() if isinstance(m, torch.nn.Dropout) and m.p > 0]


def test_timm_by_its_own_name_and_at_another_image_size() -> None:
    images = torch.rand(2, 3, 32, 48)
    assert features("timm", {"model": "vit_tiny_patch16_224"}, images).shape == (2, 192)
    assert features("timm", {"model": "mobilenetv3_small_050"}, images).shape == (2, 1024)


@pytest.mark.parametrize(
    ("name", "settings", "shape", "told"),
    [
        ("vit_b_16", {}, (3, 32, 48), "square"),
        ("vit_b_16", {}, (3, 40, 40), "40×40"),
        ("inception_v3", {}, (3, 32, 32), "32×32"),
        ("maxvit_t", {}, (3, 32, 32), "partition"),
        ("squeezenet1_1", {}, (1, 8, 8), "another image size"),
        ("resnet18", {}, (4, 32, 32), "4"),
        ("tresnet_m", {}, (2, 32, 32), "channels"),
        ("timm", {"model": "tresnet_k"}, (3, 32, 32), "did you mean .*tresnet"),
        ("timm", {"model": "resnet18.no_such_tag"}, (3, 32, 32), "resnet18"),
        ("timm", {"model": "levit_128"}, (3, 40, 40), "40×40"),
    ],
)
def test_what_does_not_suit_is_refused(
    name: str, settings: dict, shape: tuple[int, int, int], told: str
) -> None:
    channels, height, width = shape
    with pytest.raises(EncoderError, match=told):
        encoders.create(name, settings, InputShape(channels=channels, height=height, width=width))
