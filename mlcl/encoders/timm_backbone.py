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
from mlcl.encoders.timm_conversion import in_timms_names
from mlcl.suggest import closest


def build(settings: TimmSettings, inputs: InputShape) -> ImageEncoder:
    """Raises EncoderError if the network cannot take the images, or the weights are missing or do not fit."""
    timm = _timm()
    name = settings.model
    check_images(name, inputs)
    config = _pretrained_config(timm, name)
    net = _network(timm, name, config, inputs)
    if settings.weights is not None:
        _load(net, settings, config)
    return ImageEncoder(net, feature_dim(name, net, inputs), config.mean, config.std)


def _timm() -> Any:
    try:
        import timm
    except ImportError:
        raise EncoderError("timm is not installed: pip install 'mlcl[encoders]'") from None
    return timm


def _pretrained_config(timm: Any, name: str) -> Any:
    """timm's description of the network: normalisation, classifier, hub id."""
    known = timm.is_model(name) and ("." not in name or timm.models.is_model_pretrained(name))
    if not known:
        raise EncoderError(
            f"timm has no model '{name}': {closest(name, timm.list_models() + timm.list_pretrained())}"
        )
    return timm.models.get_pretrained_cfg(name)


def _network(timm: Any, name: str, config: Any, inputs: InputShape) -> nn.Module:
    options = {"img_size": (inputs.height, inputs.width)} if config.fixed_input_size else {}
    try:
        net: nn.Module = timm.create_model(name, pretrained=False, num_classes=0, **options)
    except (ValueError, AssertionError, RuntimeError) as error:
        raise EncoderError(
            f"{name}: cannot take images of {inputs.height}×{inputs.width} pixels: {' '.join(str(error).split())}"
        ) from error
    return net


def _load(net: nn.Module, settings: TimmSettings, config: Any) -> None:
    source = settings.weights or ""
    match weights.kind(source):
        case "library":
            raise EncoderError(
                f"{settings.model}: {source} is a name of torchvision's weights; for timm name the weights with the "
                "model (model: resnet50.a1_in1k) and set weights: default, a hub id, or a local folder"
            )
        case "default":
            if not config.hf_hub_id:
                raise EncoderError(
                    f"{settings.model}: timm names no hub id for its weights; set weights yourself"
                )
            source = config.hf_hub_id
    path = weights.folder(source, settings.revision)
    if weights.kind(source) == "published":
        path = in_timms_names(source, path, settings.model)
    state = _converted(net, weights.read(path), path)
    classifier = config.classifier or ()
    names = (classifier,) if isinstance(classifier, str) else classifier
    weights.load(net, state, tuple(f"{name}." for name in names), f"{settings.model}: weights: {path}")


def _converted(net: nn.Module, state: dict[str, Any], path: Path) -> dict[str, Any]:
    """The weights in the network's current form: many modules of timm convert older files and other image sizes."""
    convert = getattr(sys.modules[type(net).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return state
    try:
        return dict(convert(state, net))
    except (KeyError, RuntimeError, ValueError) as error:
        raise EncoderError(f"{path}: timm cannot convert it for this model ({error!r})") from error
