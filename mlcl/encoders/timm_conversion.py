"""Published weights in the names of timm's network, as safetensors; converted once, beside the published files.

Some publishers keep the tensors of a network in timm's order under names of their own, in a pickle. It is read with
`weights_only=True`, which runs no code, and its content was checked before (`mlcl.published`).
"""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcl import published
from mlcl.digests import has_digest, is_sealed, sealed, sha256_of
from mlcl.encoders import weights
from mlcl.encoders.errors import EncoderError

if TYPE_CHECKING:
    import torch

CONVERTED = "converted.json"
"""Which file the tensors came from, for which network, and the digest of the safetensors file."""


def in_timms_names(source: str, folder: Path, model: str) -> Path:
    """The folder or safetensors file with the weights of `source` as timm's network `model` names them.

    source: `published:NAME`, whose files lie in `folder`. Raises EncoderError where the tensors are not this network's.
    """
    _, known = published.find(source)
    if known.tensors == weights.SINGLE:
        return folder
    target = folder / f"{model}.safetensors"
    if not _is_converted(folder, target, known):
        _write(target, _renamed(folder / known.tensors, model))
        note = {"from": known.files[known.tensors].sha256, "file": target.name, "sha256": sha256_of(target)}
        (folder / CONVERTED).write_text(json.dumps(sealed(note)), encoding="utf-8")
    return target


def _is_converted(folder: Path, target: Path, known: published.PublishedModel) -> bool:
    try:
        note = json.loads((folder / CONVERTED).read_text(encoding="utf-8"))
        same = is_sealed(note) and (note["from"], note["file"]) == (
            known.files[known.tensors].sha256,
            target.name,
        )
        return same and has_digest(target, note["sha256"])
    except (OSError, ValueError):
        return False


def _renamed(file: Path, model: str) -> dict[str, torch.Tensor]:
    """The pickle's tensors under timm's names: both list them in the same order, with the same shapes."""
    import timm
    import torch

    try:
        stored: Mapping[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise EncoderError(f"{file}: cannot be read ({type(error).__name__})") from error
    expected = timm.create_model(model, pretrained=False).state_dict()
    shapes, own = [tuple(t.shape) for t in stored.values()], [tuple(t.shape) for t in expected.values()]
    if shapes != own:
        raise EncoderError(f"{file}: its tensors are not those of timm's {model}, in order and shape")
    return {name: tensor.contiguous() for name, tensor in zip(expected, stored.values(), strict=True)}


def _write(target: Path, state: Mapping[str, torch.Tensor]) -> None:
    from safetensors.torch import save_file

    aside = target.with_name(f".{os.getpid()}.{target.name}")
    save_file(dict(state), aside)
    aside.replace(target)
