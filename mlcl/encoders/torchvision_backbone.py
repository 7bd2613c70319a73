"""Any classification network of torchvision without its classifier."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mlcl.encoders import weights
from mlcl.encoders.catalog import InputShape, TorchvisionSettings
from mlcl.encoders.errors import EncoderError
from mlcl.encoders.images import ImageEncoder, check_images, feature_dim
from mlcl.offline import offline

AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")
"""Classifiers half-way up GoogLeNet and Inception; only in stored weights."""


def build(settings: TorchvisionSettings, inputs: InputShape) -> ImageEncoder:
    """Raises EncoderError where the images do not suit the network, or the weights are not there or not its own."""
    import torchvision  # 1 s; not before an encoder of it is built

    name = settings.model
    check_images(name, inputs)
    net = _network(torchvision.models, name, inputs)
    classifier = drop_classifier(net)
    published = torchvision.models.get_model_weights(name)
    chosen = _chosen(published, settings)
    if settings.weights is not None:
        state, where = _published(chosen) if chosen else _stored(settings)
        if name.startswith("vit_"):
            state = interpolate_positions(torchvision.models, state, net, inputs.height, where)
        weights.load(net, state, (f"{classifier}.", *AUXILIARY), f"{name}: weights: {where}")
    normalisation = (chosen or published.DEFAULT).transforms()
    mean, std = normalisation.mean, normalisation.std
    if settings.weights is not None and hasattr(net, "transform_input"):
        # Weights of GoogLeNet and Inception expect inputs in [-1, 1]. torchvision rescales them if this attribute is
        # set, but no file of weights stores it: an exported model would lose it.
        mean = std = (0.5, 0.5, 0.5)
    return ImageEncoder(net, feature_dim(name, net, inputs), mean, std)


def _network(models: Any, name: str, inputs: InputShape) -> nn.Module:
    options: dict[str, Any] = {}
    if name.startswith("vit_"):
        if inputs.height != inputs.width:
            raise EncoderError(
                f"{name}: takes square images only, these have {inputs.height}×{inputs.width} pixels; "
                "prepare the dataset with another image size, or choose another encoder"
            )
        options = {"image_size": inputs.height}
    elif name.startswith("maxvit_"):
        options = {"input_size": (inputs.height, inputs.width)}
    elif name in ("googlenet", "inception_v3"):
        options = {"aux_logits": False, "init_weights": True}
    try:
        net: nn.Module = models.get_model(name, weights=None, **options)
    except (ValueError, AssertionError) as error:
        raise EncoderError(
            f"{name}: cannot take images of {inputs.height}×{inputs.width} pixels: "
            f"{' '.join(str(error).split())}"
        ) from error
    return net


def drop_classifier(net: nn.Module) -> str:
    """Replaces the last linear (in SqueezeNet: convolutional) layer by nothing, and a dropout right before it, which
    belongs to the classifier. Returns the layer's name."""
    leaves = [name for name, module in net.named_modules() if not any(module.children())]
    last = max(
        i for i, name in enumerate(leaves) if isinstance(net.get_submodule(name), nn.Linear | nn.Conv2d)
    )
    net.set_submodule(leaves[last], nn.Identity())
    if isinstance(net.get_submodule(leaves[last - 1]), nn.Dropout):
        net.set_submodule(leaves[last - 1], nn.Identity())
    return leaves[last]


def _chosen(published: Any, settings: TorchvisionSettings) -> Any:
    """The member of torchvision's enumeration that the settings name; None for random weights and other sources."""
    if settings.weights is None or weights.kind(settings.weights) in ("local", "hub"):
        return None
    if settings.weights == "default":
        return published.DEFAULT
    if settings.weights not in published.__members__:
        raise EncoderError(
            f"{settings.model}: has no weights {settings.weights}; there are {', '.join(published.__members__)}"
        )
    return published[settings.weights]


def _published(chosen: Any) -> tuple[dict[str, torch.Tensor], str]:
    """torchvision's own file: a pickle, read as tensors only and checked against the hash in its name."""
    file = Path(torch.hub.get_dir()) / "checkpoints" / chosen.url.rsplit("/", 1)[1]
    if (reason := offline()) and not file.is_file():
        raise EncoderError(
            f"weights: {chosen} is not at {file}, and {reason}; fetch {chosen.url} to that place"
        )
    try:
        state = chosen.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except pickle.UnpicklingError as error:
        raise EncoderError(f"weights: {file}: holds more than tensors and is not read; remove it") from error
    except (OSError, RuntimeError) as error:
        raise EncoderError(
            f"weights: {chosen} cannot be read, or fetched from {chosen.url}: {error}"
        ) from error
    return {_densenet_name(name): value for name, value in state.items()}, file.name


def _densenet_name(name: str) -> str:
    """torchvision's files for DenseNet are older than its code: the layer `norm1` is called `norm.1` there."""
    return re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", name)


def _stored(settings: TorchvisionSettings) -> tuple[dict[str, torch.Tensor], str]:
    path = weights.folder(settings.weights or "", settings.revision)
    return weights.read(path), str(path)


def interpolate_positions(
    models: Any, state: dict[str, torch.Tensor], net: nn.Module, image_size: int, where: str
) -> dict[str, torch.Tensor]:
    """The stored weights with position embeddings interpolated to the network's image size.

    As in Dosovitskiy et al. 2021, section 3.2. `models`: torchvision's module. Raises EncoderError naming `where` if
    there are no position embeddings that fit.
    """
    try:
        return dict(
            models.vision_transformer.interpolate_embeddings(
                image_size, net.patch_size, state, reset_heads=False
            )
        )
    except (KeyError, ValueError) as error:
        raise EncoderError(f"{where}: has no position embeddings that fit ({error})") from error
