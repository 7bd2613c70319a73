"""A model's folder: `save` writes it from what a cell trained, `load` makes a `Model` of it.

The folder needs nothing else: no dataset, no stored weights of elsewhere, no network. It holds safetensors and JSON.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

import mlcl
from mlcl import encoders
from mlcl.data import PreparedDataset
from mlcl.digests import first_defect
from mlcl.encoders import EncoderError, InputShape, weights
from mlcl.encoders.adapter import Adapter
from mlcl.errors import MlclError
from mlcl.evaluation.knn import Neighbours
from mlcl.evaluation.linear import LinearHeads
from mlcl.model.config import (
    CONFIG,
    ENCODER,
    TOKENIZER,
    WEIGHTS,
    EncoderPart,
    ModelConfig,
    ModelError,
    ReadoutPart,
    TokenizerPart,
    read_config,
    write_config,
)
from mlcl.model.model import Model
from mlcl.model.preprocess import preprocessor
from mlcl.training.context import Context
from mlcl.training.inputs import batches
from mlcl.training.outcome import Outcome
from mlcl.training.settings import CellSettings

# --- Saving --------------------------------------------------------------------------------------------------


def save(
    settings: CellSettings,
    dataset: PreparedDataset,
    outcome: Outcome,
    folder: Path,
    made_by: Mapping[str, str],
) -> None:
    """Writes the outcome's encoder and heads to `folder`, which exists. `mlcl export` adds thresholds and metrics.

    `made_by`: study, cell and fingerprint. Raises ModelError for an outcome without encoder (`random`,
    `label_prior`).
    """
    if outcome.fitted is None or not outcome.heads or settings.encoder is None:
        raise ModelError(f"{settings.protocol}: trains no encoder, so there is no model to save")
    trained, adapter = outcome.fitted.method.encoder, None
    modules: dict[str, nn.Module] = {"encoder": trained}
    context = Context(settings, dataset, torch.device("cpu"), lambda line: None)
    if isinstance(trained, Adapter):
        adapter = not isinstance(trained.layer, nn.Identity)
        modules = {"encoder": context.raw_encoder(), "adapter": trained}
    tensors = {
        f"{part}.{name}": value
        for part, module in modules.items()
        for name, value in _parameters_and_buffers(module).items()
    }
    tensors |= {
        f"heads.{readout}.{name}": value
        for readout, head in outcome.heads.items()
        for name, value in head.state().items()
    }
    # Copies: safetensors refuses tensors that share memory.
    copies = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
    save_file(copies, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / WEIGHTS).chmod(0o666 & ~_umask())  # the library makes it readable by its owner alone
    text = dataset.modality == "text"
    write_config(
        folder,
        ModelConfig(
            modality=dataset.modality,
            labels=dataset.label_names,
            encoder=_encoder_part(context, folder),
            adapter=adapter,
            readouts={
                readout: ReadoutPart(kind="linear" if isinstance(head, LinearHeads) else "knn")
                for readout, head in outcome.heads.items()
            },
            readout=next(iter(outcome.heads)),
            cleaning=dataset.card["settings"].get("cleaning") if text else None,
            tokenizer=_save_tokenizer(context, folder) if text else None,
            trained={**_provenance(settings, dataset), **made_by},
        ),
    )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _parameters_and_buffers(module: nn.Module) -> dict[str, torch.Tensor]:
    """By name, with the buffers that a state dict leaves out, such as an image encoder's mean and deviation."""
    return module.state_dict() | dict(module.named_buffers())


def _encoder_part(context: Context, folder: Path) -> EncoderPart:
    """The encoder's family and settings, such that it can be built without its stored weights."""
    info = encoders.describe(context.encoder_part.name)
    settings = context.encoder_settings
    values = settings.model_dump(mode="json")
    if info.name in ("torchvision", "timm"):
        values |= {"weights": None, "revision": None}
    elif info.name in ("huggingface", "decoder"):
        values |= {"revision": None}
        if settings.model is not None:
            (folder / ENCODER).mkdir()
            source = weights.folder(settings.model, settings.revision, ("config.json",))
            shutil.copyfile(source / "config.json", folder / ENCODER / "config.json")
            values |= {"model": ENCODER, "weights": False}
        if settings.tokens["kind"] == "huggingface":
            # The encoder reads only the vocabulary's size from a published tokenizer, and that is in `inputs`.
            here = {"kind": "huggingface", "name": f"./{TOKENIZER}"}
            values["tokenizer"] = None if settings.model is not None else here
    shape = batches.input_shape(context.dataset, settings)
    return EncoderPart(name=info.name, settings=values, inputs=asdict(shape))


def _save_tokenizer(context: Context, folder: Path) -> TokenizerPart:
    stored = context.dataset.save_tokenizer(context.encoder_settings.tokens, folder / TOKENIZER)
    return TokenizerPart.model_validate(stored)


def _provenance(settings: CellSettings, dataset: PreparedDataset) -> dict[str, Any]:
    loss, encoder = settings.loss, settings.encoder
    assert encoder is not None
    return {
        "dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint},
        "subset": settings.dataset.subset.model_dump(),
        "protocol": settings.protocol,
        "encoder": encoder.name,
        "loss": {"name": loss.name, "hyperparameters": loss.hyperparameters} if loss else None,
        "training": settings.training,
        "seed": settings.seed,
        "versions": {
            "mlcl": mlcl.__version__,
            "torch": version("torch"),
            "safetensors": version("safetensors"),
        },
    }


# --- Loading -------------------------------------------------------------------------------------------------


def load(folder: Path, device: str, readout: str | None = None) -> Model:
    """See `mlcl.model.load_model`."""
    config, place = read_config(folder).with_readout(readout), _device(device)
    file = folder / WEIGHTS
    if WEIGHTS not in config.files:
        raise ModelError(f"{folder / CONFIG}: lists no {WEIGHTS}; export the model again")
    if (defect := first_defect(folder, config.files)) is not None:
        raise ModelError(f"{defect}; export the model again")
    settings = encoders.describe(config.encoder.name).settings
    values = dict(config.encoder.settings)
    if values.get("model") == ENCODER:
        values["model"] = str((folder / ENCODER).resolve())
    try:
        tensors = weights.read(file)
        encoder = encoders.create(config.encoder.name, values, InputShape(**config.encoder.inputs))
        adapter = None
        if config.adapter is not None:
            adapter = Adapter(encoder.feature_dim, config.adapter, values.get("adapter_dim"))
        _fill(encoder, _part(tensors, "encoder"), file)
        if adapter is not None:
            _fill(adapter, _part(tensors, "adapter"), file)
        stored = _part(tensors, f"heads.{config.readout}")
        heads = _heads(config, {name: value.to(place) for name, value in stored.items()})
        preprocess = preprocessor(config, settings.model_validate(values), folder)
    except (EncoderError, TypeError, KeyError) as error:
        raise ModelError(f"{folder}: {error}; export the model again") from error
    return Model(
        config, _for_inference(encoder, place), _for_inference(adapter, place), heads, preprocess, place
    )


def _device(name: str) -> torch.device:
    if name not in ("auto", "cpu", "cuda"):
        raise ModelError(f"device '{name}': valid are auto, cpu, cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise ModelError("device cuda: torch finds no GPU here; take cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def _for_inference(module: Any, device: torch.device) -> Any:
    return None if module is None else module.to(device).eval().requires_grad_(False)


def _part(tensors: Mapping[str, torch.Tensor], part: str) -> dict[str, torch.Tensor]:
    prefix = f"{part}."
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


@torch.no_grad()
def _fill(module: nn.Module, stored: Mapping[str, torch.Tensor], file: Path) -> None:
    """Copies the stored values into the module. Raises ModelError unless names and shapes are the same."""
    targets = _parameters_and_buffers(module)
    unlike = sorted(targets.keys() ^ stored.keys()) or [
        name for name, value in targets.items() if value.shape != stored[name].shape
    ]
    if unlike:
        raise ModelError(
            f"{file}: does not fit its config.json ({len(unlike)} tensors, such as {unlike[0]}); export the "
            "model again"
        )
    for name, value in targets.items():
        value.copy_(stored[name])


def _heads(config: ModelConfig, state: dict[str, torch.Tensor]) -> LinearHeads | Neighbours:
    kind = config.readouts[config.readout].kind
    head_class: type[LinearHeads] | type[Neighbours] = LinearHeads if kind == "linear" else Neighbours
    try:
        heads = head_class.from_state(state)
    except MlclError as error:
        raise ModelError(f"heads: {error}; export the model again") from None
    width = heads.biases.shape[1] if isinstance(heads, LinearHeads) else heads.labels.shape[1]
    if width != len(config.labels):
        raise ModelError(f"heads: made for {width} labels, config.json names {len(config.labels)}")
    return heads
