"""What encoders cost, against what their makers publish."""

from __future__ import annotations

import pytest

from mlcl import encoders
from mlcl.encoders import InputShape
from mlcl.encoders.flops import PUBLISHED
from mlcl.encoders.torchvision_names import TORCHVISION


@pytest.mark.parametrize(
    ("name", "settings", "parameters", "gmacs", "feature_dim"),
    [
        ("resnet18", {}, 11_176_512, 1.81, 512),
        ("resnet50", {}, 23_508_032, 4.09, 2048),
        ("vit_b_16", {}, 85_798_656, 17.6, 768),
        ("resnet50", {"weights": "someone/unreachable", "revision": "0" * 40}, 23_508_032, 4.09, 2048),
        ("tresnet_m", {}, 29_340_032, 5.7, 2048),
        ("timm", {"model": "vit_tiny_patch16_224"}, 5_524_416, 1.26, 192),
    ],
)
def test_known_networks(name: str, settings: dict, parameters: int, gmacs: float, feature_dim: int) -> None:
    found = encoders.cost(name, settings, InputShape(channels=3, height=224, width=224))
    assert (found.parameters, found.feature_dim) == (parameters, feature_dim)
    assert found.forward_flops_per_example == pytest.approx(2e9 * gmacs, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvisions_own_figures(name: str) -> None:
    """Parameters and operations as torchvision publishes them, its classifier taken off by hand."""
    from torchvision import models

    published = models.get_model_weights(name).DEFAULT
    if published.meta["num_params"] > 1e8:
        pytest.skip("more than 100 million parameters")
    size = published.transforms().crop_size[0]
    found = encoders.cost(name, {}, InputShape(channels=3, height=size, width=size))
    classifier = 1000 * found.feature_dim
    bias = 0 if name == "maxvit_t" else 1000
    auxiliary = 3_326_696 if name == "inception_v3" else 0
    assert found.parameters == published.meta["num_params"] - classifier - bias - auxiliary
    places = 13 * 13 if name.startswith("squeezenet") else 1
    macs = found.forward_flops_per_example / 2 + classifier * places
    assert macs == pytest.approx(published.meta["_ops"] * 1e9, rel=0.01, abs=1e6)


def test_vectors_and_texts_from_scratch() -> None:
    found = encoders.cost("mlp", {"hidden": [256, 128]}, InputShape(dimensions=100))
    assert found.parameters == 100 * 256 + 2 * 256 + 256 * 128 + 2 * 128
    assert found.forward_flops_per_example == 2 * (100 * 256 + 256 * 128)
    short = encoders.cost("transformer", {}, InputShape(vocab_size=100), tokens=8)
    long = encoders.cost("transformer", {}, InputShape(vocab_size=100), tokens=16)
    assert short.parameters == long.parameters
    assert 2 < long.forward_flops_per_example / short.forward_flops_per_example < 4


def test_nothing_is_drawn_from_the_global_generator() -> None:
    import torch

    torch.manual_seed(0)
    before = torch.get_rng_state()
    encoders.cost("regnet_x_400mf", {}, InputShape(channels=3, height=32, width=32))  # is built on the CPU
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", ["bert-base-uncased", "roberta-base", "Llama-3.2-1B", "all-MiniLM-L6-v2"])
def test_published_shapes_add_up(name: str) -> None:
    """The table's parameters, counted anew from vocabulary, positions and layers."""
    vocabulary, positions, types, pooler = {
        "bert-base-uncased": (30522, 512, 2, True),
        "roberta-base": (50265, 514, 1, True),
        "all-MiniLM-L6-v2": (30522, 512, 2, True),
        "Llama-3.2-1B": (128256, 0, 0, False),
    }[name]
    about = PUBLISHED[name]
    d, f, kv = about.dim, about.feedforward, about.kv or about.dim
    matrices = 2 * d * d + 2 * d * kv + (3 if about.gated else 2) * d * f
    biases_and_norms = 2 * d if about.gated else 4 * d + f + d + 4 * d
    embeddings = (vocabulary + positions + types) * d + (d if about.gated else 2 * d)
    total = about.layers * (matrices + biases_and_norms) + embeddings + (d * d + d if pooler else 0)
    assert total == about.parameters
