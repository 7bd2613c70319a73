"""A model's folder becomes a `Model`: from safetensors and JSON alone, without a network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mlcl import encoders
from mlcl.encoders import EncoderError, InputShape, weights
from mlcl.encoders.adapter import Adapter
from mlcl.errors import MlclError
from mlcl.evaluation.knn import Neighbours
from mlcl.evaluation.linear import LinearHeads
from mlcl.model.config import ENCODER, WEIGHTS, ModelConfig, ModelError, read_config
from mlcl.model.keeping import tensors_of
from mlcl.model.model import Model
from mlcl.model.preparing import preparation


def load(folder: Path, device: str) -> Model:
    """See `mlcl.model.load_model`."""
    config, place = read_config(folder), _device(device)
    file = folder / WEIGHTS
    if not file.is_file():
        raise ModelError(f"{file}: is not there; export the model again")
    settings = encoders.describe(config.encoder.name).settings
    values = dict(config.encoder.settings)
    if values.get("model") == ENCODER:
        values["model"] = str((folder / ENCODER).resolve())
    try:
        tensors = weights.read(file)
        encoder = encoders.create(config.encoder.name, values, InputShape(**config.encoder.inputs))
        adapter = None if config.adapter is None else Adapter(encoder.feature_dim, config.adapter)
        _fill(encoder, _part(tensors, "encoder"), file)
        if adapter is not None:
            _fill(adapter, _part(tensors, "adapter"), file)
        heads = _heads(config, {name: value.to(place) for name, value in _part(tensors, "heads").items()})
        prepare = preparation(config, settings.model_validate(values), folder)
    except (EncoderError, TypeError, KeyError) as error:
        raise ModelError(f"{folder}: {error}; export the model again") from error
    return Model(config, _ready(encoder, place), _ready(adapter, place), heads, prepare, place)


def _device(name: str) -> torch.device:
    if name not in ("auto", "cpu", "cuda"):
        raise ModelError(f"device '{name}': valid are auto, cpu, cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise ModelError("device cuda: torch finds no GPU here; take cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def _ready(module: Any, device: torch.device) -> Any:
    return None if module is None else module.to(device).eval().requires_grad_(False)


def _part(tensors: Mapping[str, torch.Tensor], part: str) -> dict[str, torch.Tensor]:
    prefix = f"{part}."
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


@torch.no_grad()
def _fill(module: nn.Module, stored: Mapping[str, torch.Tensor], file: Path) -> None:
    """Gives the module the stored values. Raises ModelError unless names and shapes are the same."""
    own = tensors_of(module)
    unlike = sorted(own.keys() ^ stored.keys()) or [
        name for name, value in own.items() if value.shape != stored[name].shape
    ]
    if unlike:
        raise ModelError(
            f"{file}: does not fit its config.json ({len(unlike)} tensors, such as {unlike[0]}); export the "
            "model again"
        )
    for name, value in own.items():
        value.copy_(stored[name])


def _heads(config: ModelConfig, state: dict[str, torch.Tensor]) -> LinearHeads | Neighbours:
    reader: type[LinearHeads] | type[Neighbours] = LinearHeads if config.reader == "linear" else Neighbours
    try:
        heads = reader.from_state(state)
    except MlclError as error:
        raise ModelError(f"heads: {error}; export the model again") from None
    width = heads.biases.shape[1] if isinstance(heads, LinearHeads) else heads.labels.shape[1]
    if width != len(config.labels):
        raise ModelError(f"heads: made for {width} labels, config.json names {len(config.labels)}")
    return heads
