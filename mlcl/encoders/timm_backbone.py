"""Any network of timm without its classifier, among them the TResNets of KMCL (Ridnik et al. 2021)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from torch import nn

from mlcl.encoders import weights
from mlcl.encoders.catalog import InputShape, TimmSettings
from mlcl.encoders.errors import EncoderError
from mlcl.encoders.images import ImageEncoder, check_images, feature_dim
from mlcl.suggest import closest


def build(settings: TimmSettings, inputs: InputShape) -> ImageEncoder:
    """Raises EncoderError where the images do not suit the network, or the weights are not there or not its own."""
    timm = _timm()
    name = settings.model
    check_images(name, inputs)
    about = _about(timm, name)
    net = _network(timm, name, about, inputs)
    if settings.weights is not None:
        _load(net, settings, about)
    return ImageEncoder(net, feature_dim(name, net, inputs), about.mean, about.std)


def _timm() -> Any:
    try:
        import timm
    except ImportError:
        raise EncoderError("timm is not installed: pip install 'mlcl[encoders]'") from None
    return timm


def _about(timm: Any, name: str) -> Any:
    """What timm says of the network: normalisation, classifier, hub id."""
    known = timm.is_model(name) and ("." not in name or timm.models.is_model_pretrained(name))
    if not known:
        raise EncoderError(
            f"timm has no model '{name}': {closest(name, timm.list_models() + timm.list_pretrained())}"
        )
    return timm.models.get_pretrained_cfg(name)


def _network(timm: Any, name: str, about: Any, inputs: InputShape) -> nn.Module:
    sized = {"img_size": (inputs.height, inputs.width)} if about.fixed_input_size else {}
    try:
        net: nn.Module = timm.create_model(name, pretrained=False, num_classes=0, **sized)
    except (ValueError, AssertionError, RuntimeError) as error:
        raise EncoderError(
            f"{name}: cannot take images of {inputs.height}×{inputs.width} pixels: {' '.join(str(error).split())}"
        ) from error
    return net


def _load(net: nn.Module, settings: TimmSettings, about: Any) -> None:
    source = settings.weights or ""
    match weights.kind(source):
        case "library":
            raise EncoderError(
                f"{settings.model}: {source} is a name of torchvision's weights; for timm name the weights with the "
                "model (model: resnet50.a1_in1k) and set weights: default, a hub id, or a local folder"
            )
        case "default":
            if not about.hf_hub_id:
                raise EncoderError(
                    f"{settings.model}: timm names no hub id for its weights; set weights yourself"
                )
            source = about.hf_hub_id
    path = weights.folder(source, settings.revision)
    state = _renamed(net, weights.read(path), path)
    classifier = about.classifier or ()
    names = (classifier,) if isinstance(classifier, str) else classifier
    weights.load(net, state, tuple(f"{name}." for name in names), f"{settings.model}: weights: {path}")


def _renamed(net: nn.Module, state: dict[str, Any], path: Path) -> dict[str, Any]:
    """Many modules of timm have a function for files of older forms and other image sizes, by this name."""
    convert = getattr(sys.modules[type(net).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return state
    try:
        return dict(convert(state, net))
    except (KeyError, RuntimeError, ValueError) as error:
        raise EncoderError(f"{path}: timm cannot convert it for this model ({error!r})") from error
