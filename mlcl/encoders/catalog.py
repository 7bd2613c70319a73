"""Which encoders there are, for which modality, and what can be set. No torch here."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

if TYPE_CHECKING:
    from mlcl.encoders.base import Encoder

Modality = Literal["image", "text", "vector"]
Probability = Annotated[float, Field(ge=0, lt=1)]


class EncoderSettings(BaseModel):
    """What every encoder can be told. Immutable; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    freeze: bool = False
    """Keep the encoder as it is: features are computed once, cached, and shared by all losses."""

    @property
    def pretrained(self) -> bool:
        """Does the encoder start from stored weights, so that it is the same for every seed?"""
        return False

    @property
    def weights_source(self) -> str | None:
        """Where stored weights come from, as the study names it: a local path, a hub id, a library's own name."""
        return None


class TokeniserSettings(EncoderSettings):
    """A tokeniser that is trained on the dataset's training texts (`mlcl.data`)."""

    kind: Literal["word", "bpe"] = "word"
    vocab_size: Annotated[int, Field(ge=16)] = 8000


class CnnSettings(EncoderSettings):
    """Three convolutional stages; `width` channels in the first, twice as many in each following one."""

    width: PositiveInt = 24


class TransformerSettings(EncoderSettings):
    """A small transformer encoder, mean-pooled."""

    tokeniser: TokeniserSettings = TokeniserSettings()
    max_length: PositiveInt = 32
    dim: PositiveInt = 64
    layers: PositiveInt = 1
    heads: PositiveInt = 4
    feedforward: PositiveInt = 128
    dropout: Probability = 0.0
    token_dropout: Probability = 0.1


class MlpSettings(EncoderSettings):
    """Fully connected layers with batch normalisation."""

    hidden: Annotated[list[PositiveInt], Field(min_length=1)] = [256, 256]
    input_dropout: Probability = 0.0


class HuggingFaceSettings(EncoderSettings):
    """A text encoder in the form of the Hugging Face hub: `model` is a hub id or a local folder."""

    model: str
    revision: str | None = None

    @property
    def pretrained(self) -> bool:
        return True

    @property
    def weights_source(self) -> str | None:
        return self.model


class DecoderSettings(HuggingFaceSettings):
    """A decoder model (Llama family) as an encoder of texts."""


@dataclass(frozen=True)
class EncoderInfo:
    """An encoder as a study sees it."""

    name: str
    modality: Modality
    settings: type[EncoderSettings]
    module: str
    """Has `build(settings, inputs)`, which returns a module with an attribute `feature_dim`."""


@dataclass(frozen=True)
class InputShape:
    """What an encoder has to know of its input; only the field of its modality is read."""

    channels: int = 0
    height: int = 0
    width: int = 0
    vocab_size: int = 0
    dimensions: int = 0


_ENCODERS: Mapping[str, EncoderInfo] = {
    info.name: info
    for info in (
        EncoderInfo("cnn", "image", CnnSettings, "mlcl.encoders.cnn"),
        EncoderInfo("transformer", "text", TransformerSettings, "mlcl.encoders.transformer"),
        EncoderInfo("huggingface", "text", HuggingFaceSettings, "mlcl.encoders.huggingface"),
        EncoderInfo("decoder", "text", DecoderSettings, "mlcl.encoders.decoder"),
        EncoderInfo("mlp", "vector", MlpSettings, "mlcl.encoders.mlp"),
    )
}


def names() -> list[str]:
    return sorted(_ENCODERS)


def describe(name: str) -> EncoderInfo:
    """Raises KeyError for a name that is not in `names()`."""
    return _ENCODERS[name]


def create(name: str, settings: Mapping[str, Any], inputs: InputShape) -> Encoder:
    """Builds the encoder; random weights are drawn from torch's global generator.

    The module maps a batch of its modality (`mlcl.encoders.base.Batch`) to features (B, `feature_dim`).
    """
    info = describe(name)
    module = importlib.import_module(info.module)
    encoder: Encoder = module.build(info.settings.model_validate(settings), inputs)
    return encoder
