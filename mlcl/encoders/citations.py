"""The publications of an encoder: of the library that builds it, and of the network or model that it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlcl.encoders.catalog import describe

LIBRARIES: Mapping[str, tuple[str, ...]] = {
    "torchvision": ("torchvision",),
    "timm": ("wightman2019pytorch",),
    "huggingface": ("wolf2020transformers",),
    "decoder": ("wolf2020transformers", "hu2022lora"),
}
"""Family of encoders -> the library that it is of, and the method by which it is trained."""

MODELS: Mapping[str, tuple[str, ...]] = {
    "minilm": ("reimers2019sentencebert", "wang2020minilm"),
    "distil": ("sanh2019distilbert",),
    "modernbert": ("warner2024smarter",),
    "clinical-longformer": ("li2022clinicallongformer",),
    "roberta": ("liu2019roberta",),
    "bert": ("devlin2019bert",),
    "tresnet": ("ridnik2021tresnet",),
    "resnet": ("he2016deep",),
    "efficientnet": ("tan2019efficientnet",),
    "vit": ("dosovitskiy2021image",),
}
"""What a model's name begins with, or its name on the hub -> its papers; the first one that fits. Other networks of the
libraries are not listed: `mlcl cite` says so."""
PREFIXES = ("published:", "tf_", "all-")


def citations(name: str, settings: Mapping[str, Any]) -> tuple[tuple[str, ...], str]:
    """Its publications, keys of `mlcl/study/references.bib`; and its model's name where none of them is the model's.

    Encoders that mlcl defines itself (`cnn`, `mlp`, `transformer`) have none.
    """
    family = describe(name)
    if family.name not in LIBRARIES:
        return (), ""
    checked = family.settings.model_validate(settings)
    model = _model(checked)
    own = next((papers for start, papers in MODELS.items() if _plain(model).startswith(start)), ())
    return (*LIBRARIES[family.name], *own), "" if own else model


def _model(settings: Any) -> str:
    config = getattr(settings, "config", None)
    return settings.model or (config or {}).get("model_type", "")


def _plain(model: str) -> str:
    """`sentence-transformers/all-MiniLM-L6-v2`: `minilm-l6-v2`."""
    name = model.lower().removeprefix("published:").rstrip("/").rpartition("/")[2]
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return name
