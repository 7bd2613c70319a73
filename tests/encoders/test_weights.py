"""Stored weights: from folders in the hub's layout, from the hub at a commit, from torchvision's own files."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import nn

from mlcl import encoders
from mlcl.encoders import EncoderError, InputShape, weights

NAME = "shufflenet_v2_x0_5"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
SHAPE = InputShape(channels=3, height=32, width=32)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """A network as torchvision makes it, classifier and all, with statistics that are not the initial ones."""
    from torchvision import models

    torch.manual_seed(7)
    net = models.get_model(NAME, weights=None)
    net(torch.rand(4, 3, 32, 32))
    return net.eval()


@pytest.fixture
def state(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def expected(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """What comes to the network's classifier for images normalised by hand."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    kept: list[torch.Tensor] = []
    hook = network.fc.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0]))
    with torch.no_grad():
        network((images - mean.view(3, 1, 1)) / std.view(3, 1, 1))
    hook.remove()
    return kept[0]


def create(source: str | Path, name: str = NAME, **settings: str) -> nn.Module:
    return encoders.create(name, {"weights": str(source), **settings}, SHAPE).eval()


def assert_is(encoder: nn.Module, network: nn.Module) -> None:
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(encoder(images), expected(network, images))


def in_shards(state: dict[str, torch.Tensor], folder: Path) -> None:
    names = sorted(state)
    parts = {
        "model-00001-of-00002.safetensors": names[: len(names) // 2],
        "model-00002-of-00002.safetensors": names[len(names) // 2 :],
    }
    for file, own in parts.items():
        save_file({name: state[name] for name in own}, folder / file)
    index = {"weight_map": {name: file for file, own in parts.items() for name in own}}
    (folder / weights.INDEX).write_text(json.dumps(index))


def test_a_folder_in_the_hubs_layout(tmp_path: Path, network: nn.Module, state: dict) -> None:
    save_file(state, tmp_path / "model.safetensors")
    assert_is(create(tmp_path), network)
    assert_is(create(tmp_path / "model.safetensors"), network)


def test_shards(tmp_path: Path, network: nn.Module, state: dict) -> None:
    in_shards(state, tmp_path)
    assert_is(create(tmp_path), network)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(EncoderError, match="not there: model-00002"):
        create(tmp_path)


@pytest.mark.parametrize("index", ["[]", "{", '{"weight_map": {"a": "../model.safetensors"}}'])
def test_an_index_that_is_none(tmp_path: Path, index: str) -> None:
    (tmp_path / weights.INDEX).write_text(index)
    with pytest.raises(EncoderError, match=weights.INDEX):
        create(tmp_path)


def test_a_network_without_its_classifier_will_do(tmp_path: Path, network: nn.Module, state: dict) -> None:
    save_file(
        {name: value for name, value in state.items() if not name.startswith("fc.")},
        tmp_path / "model.safetensors",
    )
    assert_is(create(tmp_path), network)


def spoil(state: dict[str, torch.Tensor], how: str) -> None:
    match how:
        case "missing":
            del state["conv1.0.weight"]
        case "unexpected":
            state["layer9.weight"] = torch.zeros(2)
        case "shape":
            state["conv1.0.weight"] = torch.zeros(1, 3, 3, 3)
        case "finite":
            state["conv1.0.weight"][0] = torch.nan


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("missing", "missing: conv1.0.weight"),
        ("unexpected", "unexpected: layer9.weight"),
        ("shape", r"conv1.0.weight is \(1, 3, 3, 3\) there"),
        ("finite", "not finite: conv1.0.weight"),
    ],
)
def test_weights_of_something_else(tmp_path: Path, state: dict, how: str, told: str) -> None:
    spoil(state, how)
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(EncoderError, match=told) as raised:
        create(tmp_path)
    assert str(tmp_path) in str(raised.value)


def test_a_file_that_is_no_safetensors(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(EncoderError, match="no readable safetensors"):
        create(tmp_path)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "resnet.pth"])
def test_pickles_are_refused(tmp_path: Path, state: dict, name: str) -> None:
    torch.save(state, tmp_path / name)
    for source in (tmp_path, tmp_path / name):
        with pytest.raises(EncoderError, match=f"{name}: only safetensors"):
            create(source)


@pytest.mark.slow
def test_the_way_out_of_pickles_works(tmp_path: Path, network: nn.Module, state: dict) -> None:
    torch.save(state, tmp_path / "pytorch_model.bin")
    with pytest.raises(EncoderError) as raised:
        create(tmp_path)
    code = str(raised.value).split("once: ")[1]
    subprocess.run(
        [sys.executable, "-c", f"import torch, safetensors.torch; {code}"], cwd=tmp_path, check=True
    )
    assert_is(create(tmp_path), network)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="holds neither"):
        create(tmp_path)
    with pytest.raises(EncoderError, match="no file or folder"):
        create(tmp_path / "absent")


def test_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("owner/here").mkdir(parents=True)
    told = {
        "default": "default",
        "IMAGENET1K_V2": "library",
        "IMAGENET1K_SWAG_E2E_V1": "library",
        "owner/name": "hub",
        "roberta-base": "hub",
        "owner/here": "local",
        "./owner/name": "local",
        "~/weights": "local",
        "a/b/c": "local",
        "net.safetensors": "local",
        "net.pth": "local",
    }
    assert {source: weights.kind(source) for source in told} == told


@pytest.mark.parametrize(
    ("name", "given", "told"),
    [
        ("resnet18", {"weights": "owner/name"}, "needs revision: a full commit hash"),
        ("resnet18", {"weights": "owner/name", "revision": "main"}, "not 'main'"),
        ("resnet18", {"weights": "owner/name", "revision": COMMIT[:7]}, "40 hexadecimal"),
        ("resnet18", {"weights": "default", "revision": COMMIT}, "leave the revision out"),
        ("resnet18", {"revision": COMMIT}, "set weights"),
        ("tresnet_m", {"weights": "default"}, "needs revision"),
    ],
)
def test_revisions(name: str, given: dict, told: str) -> None:
    with pytest.raises(ValidationError, match=told) as raised:
        encoders.describe(name).settings.model_validate(given)
    assert raised.value.errors()[0]["loc"] == ("revision",)


# ---- torchvision's own files ----


@pytest.fixture
def torch_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def published_file(name: str) -> str:
    from torchvision import models

    return models.get_model_weights(name).DEFAULT.url.rsplit("/", 1)[1]


@pytest.mark.parametrize("source", ["default", "IMAGENET1K_V1"])
def test_torchvisions_own(torch_cache: Path, network: nn.Module, state: dict, source: str) -> None:
    torch.save(state, torch_cache / published_file(NAME))
    assert_is(create(source), network)


def test_torchvisions_own_when_offline_or_unknown(torch_cache: Path) -> None:
    with pytest.raises(EncoderError, match=f"{published_file(NAME)}.*MLCL_OFFLINE"):
        create("default")
    with pytest.raises(EncoderError, match="has no weights IMAGENET1K_V9; there are IMAGENET1K_V1"):
        create("IMAGENET1K_V9")


def test_torchvisions_own_holds_tensors_only(torch_cache: Path) -> None:
    torch.save({"a": Path("x")}, torch_cache / published_file(NAME))
    with pytest.raises(EncoderError, match="more than tensors"):
        create("default")


def test_old_names_of_densenet_and_auxiliary_classifiers(torch_cache: Path) -> None:
    import re

    from torchvision import models

    net = models.densenet121(weights=None)
    old = {re.sub(r"(denselayer\d+\.\w+?)([12])\.", r"\1.\2.", k): v for k, v in net.state_dict().items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old, torch_cache / published_file("densenet121"))
    assert torch.equal(create("default", "densenet121").net.features.norm5.weight, net.features.norm5.weight)
    googlenet = models.googlenet(weights=None, aux_logits=True, init_weights=False)
    torch.save(googlenet.state_dict(), torch_cache / published_file("googlenet"))
    assert torch.equal(create("default", "googlenet").net.conv1.conv.weight, googlenet.conv1.conv.weight)


def test_googlenets_weights_get_their_inputs_without_an_attribute(torch_cache: Path) -> None:
    """torchvision's own attribute `transform_input` would be lost when the encoder is stored."""
    from torchvision import models

    net = models.googlenet(weights=None, aux_logits=True, init_weights=False, transform_input=True)
    torch.save(net.state_dict(), torch_cache / published_file("googlenet"))
    encoder = create("default", "googlenet")
    net.fc, net.dropout = nn.Identity(), nn.Identity()
    images = torch.rand(2, 3, 64, 64)
    normalised = models.GoogLeNet_Weights.DEFAULT.transforms(crop_size=64, resize_size=64)(images)
    with torch.no_grad():
        torch.testing.assert_close(encoder(images), net.eval()(normalised), rtol=1e-4, atol=1e-5)
    assert not encoder.net.transform_input


def test_position_embeddings_of_another_image_size() -> None:
    from torchvision import models

    from mlcl.encoders.torchvision_backbone import interpolate_positions

    def vit(size: int) -> nn.Module:
        return models.VisionTransformer(size, 8, 1, 2, 16, 32)

    there, here = vit(32), vit(48)
    state = interpolate_positions(models, there.state_dict(), here, 48, "a file")
    assert state["encoder.pos_embedding"].shape == here.encoder.pos_embedding.shape == (1, 37, 16)
    assert torch.equal(state["encoder.pos_embedding"][:, 0], there.encoder.pos_embedding[:, 0])
    with pytest.raises(EncoderError, match="a file: has no position embeddings"):
        interpolate_positions(models, {}, here, 48, "a file")


# ---- timm ----


def test_timm_from_a_folder(tmp_path: Path) -> None:
    import timm

    torch.manual_seed(3)
    net = timm.create_model("mobilenetv3_small_050").eval()
    save_file(net.state_dict(), tmp_path / "model.safetensors")
    settings = {"model": "mobilenetv3_small_050", "weights": str(tmp_path)}
    encoder = encoders.create("timm", settings, SHAPE).eval()
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        features = encoder(images)
        logits = net((images - encoder.mean) / encoder.std)
        torch.testing.assert_close(net.classifier(features), logits)


def test_timm_position_embeddings_of_another_image_size(tmp_path: Path) -> None:
    import timm

    net = timm.create_model("vit_tiny_patch16_224")
    save_file(net.state_dict(), tmp_path / "model.safetensors")
    settings = {"model": "vit_tiny_patch16_224", "weights": str(tmp_path)}
    encoder = encoders.create("timm", settings, SHAPE)
    assert torch.equal(encoder.net.blocks[3].attn.qkv.weight, net.blocks[3].attn.qkv.weight)
    assert encoder.net.pos_embed.shape == (1, 5, 192)


def test_tresnet_from_its_makers_layout(tmp_path: Path) -> None:
    """timm's own hub id is found for `default`, in the cache, at the commit."""
    import timm

    torch.manual_seed(5)
    net = timm.create_model("tresnet_m")
    snapshot = tmp_path / "models--timm--tresnet_m.miil_in21k_ft_in1k" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    save_file(net.state_dict(), snapshot / "model.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        encoder = create("default", "tresnet_m", revision=COMMIT)
    assert torch.equal(encoder.net.body.conv1.conv.weight, net.body.conv1.conv.weight)


def test_names_of_torchvisions_weights_are_not_timms() -> None:
    with pytest.raises(EncoderError, match=r"resnet50\.a1_in1k"):
        create("IMAGENET1K_V1", "tresnet_m")


# ---- the hub ----


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's interface as one repository at one commit needs."""

    files: dict[str, bytes] = {}
    asked: list[str] = []

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        type(self).asked.append(path)
        if path == f"/api/models/owner/net/revision/{COMMIT}":
            siblings = [{"rfilename": name} for name in self.files]
            return self._answer(json.dumps({"id": "owner/net", "sha": COMMIT, "siblings": siblings}).encode())
        if path == f"/api/models/owner/net/tree/{COMMIT}":
            tree = [
                {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for name, content in self.files.items()
            ]
            return self._answer(json.dumps(tree).encode())
        name = path.removeprefix(f"/owner/net/resolve/{COMMIT}/")
        if name in self.files:
            return self._answer(self.files[name])
        self.send_error(404)
        return None

    def _answer(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(tmp_path: Path, state: dict) -> Iterator[str]:
    save_file(state, tmp_path / "served.safetensors")
    Hub.files = {
        "model.safetensors": (tmp_path / "served.safetensors").read_bytes(),
        "pytorch_model.bin": b"a pickle",
        "config.json": b"{}",
    }
    Hub.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def fetch(
    endpoint: str, home: Path, source: str = "owner/net", **extra: str
) -> subprocess.CompletedProcess[str]:
    """In a process of its own: the library reads its environment when it is imported."""
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    environment |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "MLCL_OFFLINE": "0", "HF_HUB_OFFLINE": "0"}
    code = f"from mlcl.encoders import weights; print(weights.folder({source!r}, {COMMIT!r}))"
    return subprocess.run(
        [sys.executable, "-c", code], env=environment | extra, capture_output=True, text=True, timeout=120
    )


@pytest.mark.slow
def test_from_the_hub_and_then_offline(tmp_path: Path, hub: str, network: nn.Module) -> None:
    first = fetch(hub, tmp_path / "home")
    assert first.returncode == 0, first.stderr
    folder = Path(first.stdout.strip())
    assert {file.name for file in folder.iterdir()} == {"model.safetensors", "config.json"}
    assert_is(create(folder), network)
    asked = len(Hub.asked)
    for switch in ("MLCL_OFFLINE", "HF_HUB_OFFLINE"):
        again = fetch(hub, tmp_path / "home", **{switch: "1"})
        assert again.stdout == first.stdout, again.stderr
    assert len(Hub.asked) == asked


@pytest.mark.slow
def test_what_is_not_on_the_hub_or_not_in_the_cache(tmp_path: Path, hub: str) -> None:
    absent = fetch(hub, tmp_path / "home", "owner/other")
    assert f"EncoderError: weights: owner/other at {COMMIT}" in absent.stderr
    offline = fetch(hub, tmp_path / "home", MLCL_OFFLINE="1")
    assert f"hf download owner/net --revision {COMMIT}" in offline.stderr.splitlines()[-1]


def test_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.errors import LocalEntryNotFoundError

    def unreachable(*_: object, **__: object) -> None:
        raise LocalEntryNotFoundError("try again") from ConnectionError()

    monkeypatch.setenv("MLCL_OFFLINE", "0")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    with pytest.raises(EncoderError, match=r"cannot be reached \(ConnectionError\)"):
        create("owner/net", revision=COMMIT)


def test_a_hub_id_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: nn.Module, state: dict
) -> None:
    snapshot = tmp_path / "models--owner--net" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    save_file(state, snapshot / "model.safetensors")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert_is(create("owner/net", revision=COMMIT), network)


# ---- the digest ----


def test_the_digest_is_that_of_the_content(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder / ".cache").mkdir(parents=True)
        (tmp_path / folder / "model.safetensors").write_bytes(b"weights")
        (tmp_path / folder / "config.json").write_text("{}")
    (tmp_path / "b" / ".cache" / "x.json").write_text("of no account")
    (tmp_path / "b" / "README.md").write_text("of no account")

    def digest(folder: str) -> str | None:
        return encoders.weights_digest("resnet18", {"weights": str(tmp_path / folder)})

    first = digest("a")
    assert first is not None
    assert first == digest("b")
    (tmp_path / "b" / "config.json").write_text("[]")
    changed = digest("b")
    (tmp_path / "b" / "model.safetensors").write_bytes(b"other weights")
    assert len({first, changed, digest("b")}) == 3
    file = tmp_path / "a" / "model.safetensors"
    expected = hashlib.sha256(b"weights").hexdigest()
    assert encoders.weights_digest("resnet18", {"weights": str(file)}) == expected


def test_a_file_is_hashed_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"weights")
    opened = []
    open_file = Path.open
    monkeypatch.setattr(
        Path, "open", lambda path, *args, **named: opened.append(path.name) or open_file(path, *args, **named)
    )
    first, second, third = (weights.digest(str(tmp_path)) for _ in range(3))
    assert first == second == third
    assert opened.count(file.name) == 1
    file.write_bytes(b"other weights")
    opened.clear()
    assert weights.digest(str(tmp_path)) != first
    assert opened.count(file.name) == 1


def test_what_is_pinned_otherwise_has_no_digest(tmp_path: Path) -> None:
    digest = encoders.weights_digest
    assert digest("resnet18", {}) is None
    assert digest("resnet18", {"weights": "default"}) is None
    assert digest("resnet18", {"weights": "owner/name", "revision": COMMIT}) is None
    assert digest("cnn", {}) is None
    with pytest.raises(EncoderError, match="no file or folder"):
        digest("resnet18", {"weights": str(tmp_path / "absent")})
