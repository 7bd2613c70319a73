"""What a cell trained becomes a model's folder that needs neither the dataset nor stored weights of elsewhere."""

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

from mlcl import encoders
from mlcl.data import PreparedDataset
from mlcl.encoders import weights
from mlcl.encoders.adapter import Adapter
from mlcl.evaluation.linear import LinearHeads
from mlcl.model.config import (
    ENCODER,
    TOKENIZER,
    WEIGHTS,
    EncoderPart,
    ModelConfig,
    ModelError,
    TokenizerPart,
    write_config,
)
from mlcl.training.context import Context
from mlcl.training.inputs import batches
from mlcl.training.outcome import Outcome
from mlcl.training.settings import CellSettings


def keep(
    settings: CellSettings,
    dataset: PreparedDataset,
    outcome: Outcome,
    folder: Path,
    made_by: Mapping[str, str],
) -> None:
    """Writes the outcome's encoder and heads to `folder`, which exists; thresholds and metrics are not known here.

    `made_by`: study, cell and fingerprint. Raises ModelError for an outcome without encoder (`random`,
    `label_prior`).
    """
    if outcome.fitted is None or outcome.heads is None or settings.encoder is None:
        raise ModelError(f"{settings.protocol}: has no encoder, so there is no model to keep")
    trained, adapter = outcome.fitted.method.encoder, None
    modules: dict[str, nn.Module] = {"encoder": trained}
    context = Context(settings, dataset, torch.device("cpu"), lambda line: None)
    if isinstance(trained, Adapter):
        adapter = not isinstance(trained.layer, nn.Identity)
        modules = {"encoder": context.raw_encoder(), "adapter": trained}
    tensors = {
        f"{part}.{name}": value for part, m in modules.items() for name, value in tensors_of(m).items()
    }
    tensors |= {f"heads.{name}": value for name, value in outcome.heads.state().items()}
    # Copies: safetensors takes no tensors that share memory.
    copies = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
    save_file(copies, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / WEIGHTS).chmod(0o666 & ~_umask())  # the library lets nobody else read it
    text = dataset.modality == "text"
    write_config(
        folder,
        ModelConfig(
            modality=dataset.modality,  # type: ignore[arg-type]
            labels=dataset.label_names,
            encoder=_encoder_part(context, folder),
            adapter=adapter,
            reader="linear" if isinstance(outcome.heads, LinearHeads) else "knn",
            cleaning=dataset.card["settings"].get("cleaning") if text else None,
            tokenizer=_save_tokenizer(context, folder) if text else None,
            trained={**_provenance(settings, dataset), **made_by},
        ),
    )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def tensors_of(module: nn.Module) -> dict[str, torch.Tensor]:
    """All parameters and buffers by name, also buffers that a state dict leaves out, such as an image encoder's
    mean and deviation."""
    return module.state_dict() | dict(module.named_buffers())


def _encoder_part(context: Context, folder: Path) -> EncoderPart:
    """The encoder's family and settings, such that it can be built without its stored weights."""
    info = encoders.describe(context.encoder_part.name)
    own = context.encoder_settings
    values = own.model_dump(mode="json")
    if info.name in ("torchvision", "timm"):
        values |= {"weights": None, "revision": None}
    elif info.name in ("huggingface", "decoder"):
        values |= {"revision": None}
        if own.model is not None:
            (folder / ENCODER).mkdir()
            source = weights.folder(own.model, own.revision, ("config.json",))
            shutil.copyfile(source / "config.json", folder / ENCODER / "config.json")
            values |= {"model": ENCODER, "weights": False}
        if own.tokens["kind"] == "huggingface":
            # Of a published tokenizer the encoder has to know its input's shape alone.
            here = {"kind": "huggingface", "name": f"./{TOKENIZER}"}
            values["tokenizer"] = None if own.model is not None else here
    shape = batches.input_shape(context.dataset, own)
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
        "versions": {package: version(package) for package in ("mlcl", "torch", "safetensors")},
    }
