"""The published encoders by name, on real weights where this machine has them, and their settings where it has not."""

from pathlib import Path

import pytest
import torch
from torch import nn

from mlcl import encoders, published
from mlcl.encoders import timm_conversion, weights
from mlcl.encoders.errors import EncoderError

IMAGE = encoders.InputShape(channels=3, height=224, width=224)


def need(name: str) -> None:
    if defect := published.defect(name):
        pytest.skip(f"the published weights are not on this machine (mlcl weights fetch {name}): {defect}")


def test_the_fingerprint_of_a_published_model_is_its_pinned_content() -> None:
    for name in ("minilm_l6", "efficientnet_lite0"):
        assert encoders.weights_digest(name, {}) == published.digest(name)
        assert encoders.local_sources(name, {}) == []
    assert encoders.weights_digest("efficientnet_lite0", {"weights": None}) is None


def test_a_published_name_that_is_none() -> None:
    with pytest.raises(EncoderError, match="did you mean minilm_l6"):
        weights.check_pinned("published:minilm_l7", None)
    with pytest.raises(EncoderError, match="leave the revision out"):
        weights.check_pinned("published:minilm_l6", "0" * 40)


def test_a_pickle_in_another_order_is_refused(tmp_path: Path) -> None:
    known = published.MODELS["efficientnet_lite0"]
    torch.save(nn.Linear(3, 2).state_dict(), tmp_path / known.tensors)
    with pytest.raises(EncoderError, match="are not those of timm's tf_efficientnet_lite0"):
        timm_conversion.in_timms_names("published:efficientnet_lite0", tmp_path, "tf_efficientnet_lite0")


def test_converted_once_and_again_when_damaged(tmp_path: Path) -> None:
    import timm

    known = published.MODELS["efficientnet_lite0"]
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    renamed = {f"a.{i}": tensor for i, tensor in enumerate(network.state_dict().values())}
    torch.save(renamed, tmp_path / known.tensors)
    target = timm_conversion.in_timms_names("published:efficientnet_lite0", tmp_path, "tf_efficientnet_lite0")
    whole = target.read_bytes()
    (tmp_path / known.tensors).unlink()  # so that a second conversion would fail
    assert timm_conversion.in_timms_names(
        "published:efficientnet_lite0", tmp_path, "tf_efficientnet_lite0"
    ) == (target)
    state = weights.read(target)
    assert all(torch.equal(state[name], tensor) for name, tensor in network.state_dict().items())
    torch.save(renamed, tmp_path / known.tensors)
    target.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    timm_conversion.in_timms_names("published:efficientnet_lite0", tmp_path, "tf_efficientnet_lite0")
    assert target.read_bytes() == whole


def test_real_efficientnet() -> None:
    need("efficientnet_lite0")
    encoder = encoders.create("efficientnet_lite0", {}, IMAGE).eval()
    with torch.no_grad():
        features = encoder(torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0)))
    assert features.shape == (2, 1280)
    assert features.isfinite().all()
    assert not torch.allclose(features[0], features[1])


def test_real_minilm() -> None:
    need("minilm_l6")
    settings = encoders.describe("minilm_l6").settings()
    encoder = encoders.create("minilm_l6", {}, encoders.InputShape(vocab_size=30522))
    assert encoder.feature_dim == 384
    assert settings.tokens == {"kind": "huggingface", "name": "published:minilm_l6"}
