"""What encoders cost, against what their makers publish."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlcl import encoders
from mlcl.encoders import EncoderError, InputShape
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
    if published.meta["num_params"] > 3e7:
        pytest.skip("more than 30 million parameters")
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


def test_a_text_costs_what_its_chunks_cost() -> None:
    shape, config = (
        InputShape(vocab_size=100),
        {"model_type": "bert", "hidden_size": 32, "num_hidden_layers": 1},
    )
    config |= {"num_attention_heads": 2, "intermediate_size": 64}
    settings = {"config": config, "tokenizer": {"kind": "bpe", "vocab_size": 100}, "max_length": 64}
    one = encoders.cost("huggingface", settings, shape, tokens=64).forward_flops_per_example
    cut = encoders.cost("huggingface", settings, shape, tokens=256).forward_flops_per_example
    chunked = settings | {"max_chunks": 4}
    assert cut == one
    assert encoders.cost("huggingface", chunked, shape, tokens=256).forward_flops_per_example == 4 * one
    assert encoders.cost("huggingface", chunked, shape, tokens=100).forward_flops_per_example == 2 * one


def test_defaults_suit_each_other() -> None:
    assert encoders.cost("transformer", {}, InputShape(vocab_size=100)).forward_flops_per_example > 0


def test_nothing_is_drawn_from_the_global_generator() -> None:
    import torch

    torch.manual_seed(0)
    before = torch.get_rng_state()
    encoders.cost("regnet_x_400mf", {}, InputShape(channels=3, height=32, width=32))  # is built on the CPU
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", ["bert-base-uncased", "roberta-base", "Llama-3.2-1B", "all-MiniLM-L6-v2"])
def test_published_shapes_add_up(name: str) -> None:
    """The table's parameters, counted anew from vocabulary, positions and layers."""
    vocabulary, positions, types = {
        "bert-base-uncased": (30522, 512, 2),
        "roberta-base": (50265, 514, 1),
        "all-MiniLM-L6-v2": (30522, 512, 2),
        "Llama-3.2-1B": (128256, 0, 0),
    }[name]
    about = PUBLISHED[name]
    d, f, kv = about.dim, about.feedforward, about.kv or about.dim
    matrices = 2 * d * d + 2 * d * kv + (3 if about.gated else 2) * d * f
    biases_and_norms = 2 * d if about.gated else 4 * d + f + d + 4 * d
    embeddings = (vocabulary + positions + types) * d + (d if about.gated else 2 * d)
    assert about.layers * (matrices + biases_and_norms) + embeddings == about.parameters


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("all-MiniLM-L6-v2", {"hidden_size": 384, "num_hidden_layers": 6, "intermediate_size": 1536}),
        ("bert-base-uncased", {}),
    ],
)
def test_the_table_agrees_with_counting(name: str, config: dict) -> None:
    settings = {"config": {"model_type": "bert", **config}, "tokenizer": {"kind": "word"}}
    counted = encoders.cost("huggingface", settings, InputShape(vocab_size=30522), tokens=100)
    assert counted == encoders.cost(
        "huggingface", {"model": f"any/{name}", "revision": "0" * 40}, InputShape(), 100
    )


def test_no_estimate_downloads_anything(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLCL_OFFLINE", "0")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(EncoderError, match="nothing is downloaded for an estimate"):
        encoders.cost("huggingface", {"model": "owner/unheard-of", "revision": "0" * 40}, InputShape())


@pytest.mark.slow
def test_what_cannot_be_counted_is_said_so() -> None:
    """Longformer's code looks at the values of its input; its published shape helps where its name is known."""
    settings = {
        "config": {"model_type": "longformer", "num_hidden_layers": 1, "attention_window": [8]},
        "tokenizer": {"kind": "word"},
        "max_length": 16,
    }
    with pytest.raises(EncoderError, match="without running it"):
        encoders.cost("huggingface", settings, InputShape(vocab_size=100, pad_id=1), tokens=16)
    known = {"model": "any/Clinical-Longformer", "revision": "0" * 40, "max_length": 4096}
    found = encoders.cost("huggingface", known, InputShape(), tokens=2048)
    # torch.utils.flop_counter on the CPU gives 78.1e9 for two of its twelve layers
    assert found.forward_flops_per_example == pytest.approx(78.1e9 * 6, rel=0.05)
