"""Stored weights: their source, their files, their content. Safetensors only.

    weights: null                                random weights, drawn from torch's global generator
    weights: default                             the library's own choice
    weights: IMAGENET1K_V2                       a name from torchvision's list
    weights: owner/name  revision: <commit>      a repository of the Hugging Face hub
    weights: path/to/folder                      a folder in the hub's layout, or one .safetensors file
    weights: published:efficientnet_lite0        a model that is known by name (`mlcl.published`)

Reading a pickle runs the code in it, so .bin and .pth files are refused. torchvision's own files are one exception
(`mlcl.encoders.torchvision_backbone`), published files of known content another (`mlcl.encoders.timm_conversion`).
Nothing here imports torch until weights are read.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mlcl import published
from mlcl.encoders.errors import EncoderError
from mlcl.offline import offline

if TYPE_CHECKING:
    import torch
    from torch import nn

Kind = Literal["default", "library", "published", "local", "hub"]

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLED = (".bin", ".pth", ".pt", ".ckpt")
WEIGHT_FILES = (SINGLE, INDEX, "model-*.safetensors", "config.json")
"""Files of a hub repository that are fetched when only weights are needed."""
HASHED = (".safetensors", ".json", ".txt", ".model")
"""Weights, configuration, and the files of tokenizers."""

_COMMIT = re.compile(r"[0-9a-f]{40}")
_LIBRARY_NAME = re.compile(r"[A-Z0-9]+(_[A-Z0-9]+)+")
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_BLOCK = 1 << 20


def kind(source: str) -> Kind:
    """The kind of source. A name that could be a hub id is local if a file or folder of that name exists."""
    if source == "default":
        return "default"
    if _LIBRARY_NAME.fullmatch(source):
        return "library"
    if published.is_published(source):
        return "published"
    path = _path(source)
    looks_local = source.startswith((".", "/", "~")) or path.suffix in (".safetensors", *PICKLED)
    return "local" if looks_local or path.exists() or not _HUB_ID.fullmatch(source) else "hub"


def check_pinned(source: str | None, revision: str | None, default_from_hub: bool = False) -> None:
    """Raises EncoderError unless a source on the hub has a full commit hash, and other sources have none.

    Branches and tags can move, and a cell's fingerprint must determine its weights.
    """
    if source is None:
        if revision is not None:
            raise EncoderError("a revision is given but no weights; set weights, or leave the revision out")
        return
    source_kind = kind(source)
    if source_kind == "published":
        try:
            published.find(source)
        except published.PublishedError as error:
            raise EncoderError(str(error)) from error
    if source_kind == "hub" or (source_kind == "default" and default_from_hub):
        if revision is None or not _COMMIT.fullmatch(revision):
            no_folder = (
                f"there is no folder '{source}', and as a hub id it" if source_kind == "hub" else "'default'"
            )
            given = "" if revision is None else f", not '{revision}'"
            raise EncoderError(
                f"{no_folder} needs revision: a full commit hash (40 hexadecimal digits){given}; "
                "the hub shows it under 'Files and versions', 'History'"
            )
    elif revision is not None:
        raise EncoderError(
            f"a revision is for weights from the hub; '{source}' is not, leave the revision out"
        )


def folder(source: str, revision: str | None, files: Collection[str] = WEIGHT_FILES) -> Path:
    """The local folder (or single file) of a local path, a published name or a hub id; downloads what is not cached.

    files: patterns of the files that are fetched from the hub. Raises EncoderError if they cannot be had.
    """
    if kind(source) == "local":
        path = _path(source)
        if not path.exists():
            raise EncoderError(f"weights: there is no file or folder {path}")
        return path
    check_pinned(source, revision)
    if kind(source) == "published":
        try:
            return published.folder(source)
        except published.PublishedError as error:
            raise EncoderError(f"weights: {error}") from error
    return _snapshot(source, revision, files)


def _snapshot(source: str, revision: str | None, files: Collection[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    pinned = f"{source} at {revision}"
    try:
        return Path(
            snapshot_download(
                source, revision=revision, allow_patterns=list(files), local_files_only=bool(offline())
            )
        )
    except LocalEntryNotFoundError as error:
        reason = offline() or f"the hub cannot be reached ({type(error.__cause__ or error).__name__})"
        raise EncoderError(
            f"weights: {pinned} is not in the local cache, and {reason}; where there is a network run "
            f"'hf download {source} --revision {revision}', or name a local folder"
        ) from error
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise EncoderError(f"weights: {pinned} cannot be fetched: {_first_line(error)}") from error


def files(path: Path) -> list[Path]:
    """The safetensors files of a folder in the hub's layout, or the file itself.

    Raises EncoderError where there are none, or shards are missing.
    """
    if path.is_file():
        if path.suffix != ".safetensors":
            raise EncoderError(_convert(path))
        return [path]
    if (path / SINGLE).is_file():
        return [path / SINGLE]
    if (path / INDEX).is_file():
        shards = _shards(path / INDEX)
        if missing := [shard.name for shard in shards if not shard.is_file()]:
            raise EncoderError(f"{path}: {INDEX} names files that are not there: {', '.join(missing)}")
        return shards
    if pickled := sorted(file for file in path.glob("*") if file.suffix in PICKLED):
        raise EncoderError(_convert(pickled[0]))
    raise EncoderError(f"{path}: holds neither {SINGLE} nor {INDEX}")


def _shards(index: Path) -> list[Path]:
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, AttributeError, TypeError):
        raise EncoderError(f"{index}: is no index of shards (a mapping weight_map)") from None
    if outside := [name for name in names if Path(name).name != name]:
        raise EncoderError(f"{index}: names files outside its folder: {', '.join(sorted(outside))}")
    return [index.parent / name for name in sorted(names)]


def _convert(pickled: Path) -> str:
    return (
        f"{pickled}: only safetensors are read, since reading a pickle runs the code in it; if you trust the file, "
        f'convert it once: state = torch.load("{pickled.name}", weights_only=True, map_location="cpu"); '
        f'safetensors.torch.save_file({{k: v.clone() for k, v in state.items()}}, "{SINGLE}")'
    )


def read(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a folder in the hub's layout or of one .safetensors file, by name, on the CPU."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    state: dict[str, torch.Tensor] = {}
    for file in files(path):
        try:
            state |= load_file(file)
        except SafetensorError as error:
            raise EncoderError(f"{file}: is no readable safetensors file ({_first_line(error)})") from error
    return state


def load(module: nn.Module, state: Mapping[str, torch.Tensor], dropped: Collection[str], where: str) -> None:
    """Loads weights into a module; `dropped`: prefixes of names to ignore, such as those of the classifier.

    Raises EncoderError naming `where` for missing and unexpected names, other shapes, and values that are not finite.
    """
    stored = {name: value for name, value in state.items() if not name.startswith(tuple(dropped))}
    expected = module.state_dict()
    other_shapes = [
        f"{name} is {tuple(stored[name].shape)} there and {tuple(expected[name].shape)} here"
        for name in expected
        if name in stored and stored[name].shape != expected[name].shape
    ]
    if other_shapes:
        raise EncoderError(f"{where}: does not fit: {_some(other_shapes)}")
    if not_finite := [
        name for name, value in stored.items() if value.is_floating_point() and not value.isfinite().all()
    ]:
        raise EncoderError(f"{where}: has values that are not finite: {_some(not_finite)}")
    keys = module.load_state_dict(stored, strict=False)
    problems = [
        f"{problem}: {_some(names)}"
        for problem, names in (("missing", keys.missing_keys), ("unexpected", keys.unexpected_keys))
        if names
    ]
    if problems:
        raise EncoderError(f"{where}: is not this model's: {'; '.join(problems)}")


def digest(source: str | None) -> str | None:
    """The sha256 of published weights, or of a local folder or file; None for what name or revision determine.

    In a folder: weights, configuration and tokenizer files, by relative path. A process reads a file again only if its
    size or time of modification changed. Raises EncoderError if the path does not exist.
    """
    if source is not None and kind(source) == "published":
        return published.digest(source)
    if source is None or kind(source) != "local":
        return None
    path = folder(source, None)
    if path.is_file():
        return _file_digest(path)
    hashed_files = {
        file.relative_to(path): file for file in path.rglob("*") if file.suffix in HASHED and file.is_file()
    }
    parts = [
        f"{name.as_posix()} {_file_digest(file)}\n"
        for name, file in sorted(hashed_files.items())
        if not any(part.startswith(".") for part in name.parts)
    ]
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def _file_digest(file: Path) -> str:
    stat = file.stat()
    return _content_digest(file.resolve(), stat.st_size, stat.st_mtime_ns)


@cache
def _content_digest(file: Path, size: int, mtime: int) -> str:
    content = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(_BLOCK):
            content.update(block)
    return content.hexdigest()


def _path(source: str) -> Path:
    return Path(source).expanduser()


def _some(names: Collection[str], most: int = 4) -> str:
    listed = ", ".join(sorted(names)[:most])
    return listed if len(names) <= most else f"{listed} and {len(names) - most} more"


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
