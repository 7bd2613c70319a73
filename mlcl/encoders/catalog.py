"""The catalog of encoders: their names, modalities and settings. No torch here."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationInfo,
    create_model,
    field_validator,
    model_validator,
)

from mlcl.encoders import weights
from mlcl.encoders.errors import EncoderError
from mlcl.encoders.torchvision_names import TORCHVISION
from mlcl.suggest import closest

if TYPE_CHECKING:
    from mlcl.encoders.base import Encoder

Modality = Literal["image", "text", "vector"]
Probability = Annotated[float, Field(ge=0, lt=1)]


class EncoderSettings(BaseModel):
    """The settings of every encoder. Immutable; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    freeze: bool = False
    """Do not train the encoder: features are computed once, cached, and shared by all losses."""
    adapter_dim: Annotated[PositiveInt | None, Field(exclude_if=lambda value: value is None)] = None
    """Width of the layer that is trained on a frozen encoder's features; by default as many as there are features."""

    @model_validator(mode="after")
    def _adapter_of_a_frozen_encoder(self) -> Self:
        if self.adapter_dim is not None and not self.freeze:
            raise ValueError("adapter_dim: there is a layer on the features only with freeze: true")
        return self

    @property
    def pretrained(self) -> bool:
        """Whether the encoder starts from stored weights, which are the same for every seed."""
        return False

    @property
    def weights_source(self) -> str | None:
        """The source of stored weights as the study names it: a local path, a hub id, or a name of the library."""
        return None

    @property
    def tokenizer_source(self) -> str | None:
        """The source of a published tokenizer that is named apart from the model: a local folder or a hub id."""
        return None


class TokenizerSettings(BaseModel):
    """A tokenizer that is trained on the dataset's training texts (`mlcl.data`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["word", "bpe"] = "word"
    """Whole words, or parts of words (byte-pair encoding); trained on the training texts."""
    vocab_size: Annotated[int, Field(ge=16)] = 8000
    """How many different tokens there are; rarer words become the token for unknown ones."""


class PublishedTokenizerSettings(BaseModel):
    """A tokenizer in the form of the Hugging Face hub: `name` is a hub id (with `revision`) or a local folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["huggingface"] = "huggingface"
    name: str
    revision: str | None = None

    @model_validator(mode="after")
    def _pinned(self) -> Self:
        weights.check_pinned(self.name, self.revision)
        return self


class CnnSettings(EncoderSettings):
    """Three convolutional stages; `width` channels in the first, twice as many in each following one."""

    width: PositiveInt = 24
    """Channels of the first stage."""


class BackboneSettings(EncoderSettings):
    """A network of a library without its classifier. `mlcl.encoders.weights` lists the forms of `weights`."""

    default_is_on_hub: ClassVar[bool] = False

    model: str
    weights: str | None = None
    revision: Annotated[str | None, Field(validate_default=True)] = None
    """The full commit hash, for weights from the Hugging Face hub."""

    @field_validator("revision")
    @classmethod
    def _pinned(cls, revision: str | None, others: ValidationInfo) -> str | None:
        if "weights" in others.data:
            weights.check_pinned(others.data["weights"], revision, cls.default_is_on_hub)
        return revision

    @property
    def pretrained(self) -> bool:
        return self.weights is not None

    @property
    def weights_source(self) -> str | None:
        return self.weights


class TorchvisionSettings(BackboneSettings):
    """A classification network of torchvision. `default` weights are torchvision's newest for it."""

    @field_validator("model")
    @classmethod
    def _known(cls, model: str) -> str:
        if model not in TORCHVISION:
            raise ValueError(
                f"torchvision has no classification network of this name; {closest(model, TORCHVISION)}"
            )
        return model


class TimmSettings(BackboneSettings):
    """A network of timm, by timm's name. `default` weights are those of timm's own hub id, at `revision`."""

    default_is_on_hub: ClassVar[bool] = True


class TransformerSettings(EncoderSettings):
    """A small transformer encoder, mean-pooled."""

    tokenizer: TokenizerSettings = TokenizerSettings()
    """Trained on the training texts."""
    max_length: PositiveInt = 32
    """Tokens of a text that are read; the rest is dropped. Raise it for texts of more than a sentence or two."""
    dim: PositiveInt = 64
    """Width of the model, and of its features."""
    layers: PositiveInt = 1
    heads: PositiveInt = 4
    """Attention heads; they divide `dim`."""
    feedforward: PositiveInt = 128
    """Width of the hidden layer in each block."""
    dropout: Probability = 0.0
    token_dropout: Probability = 0.1
    """Share of the tokens that are left out in training, others each time."""

    @model_validator(mode="after")
    def _heads_divide_dim(self) -> Self:
        if self.dim % self.heads:
            raise EncoderError(f"dim {self.dim} is not divisible by {self.heads} heads; set a multiple of it")
        return self

    @property
    def tokens(self) -> dict[str, Any]:
        """What `mlcl.data` is told to make token ids with."""
        return self.tokenizer.model_dump()

    @property
    def max_chunks(self) -> int:
        return 1


class MlpSettings(EncoderSettings):
    """Fully connected layers with batch normalisation."""

    hidden: Annotated[list[PositiveInt], Field(min_length=1)] = [256, 256]
    """Widths of the layers; the last one is that of the features."""
    input_dropout: Probability = 0.0
    """Share of the inputs that are set to 0 in training."""


class HuggingFaceSettings(EncoderSettings):
    """A text model of the transformers library: stored (`model`) or from a configuration (`config`)."""

    model: str | None = None
    """A hub id or a local folder in the hub's layout."""
    revision: str | None = None
    """The commit of a hub id, 40 hexadecimal digits."""
    weights: bool = True
    """False: random weights in the form that `model` has."""
    config: dict[str, Any] | None = None
    """`{model_type: bert, hidden_size: 384, ...}`, with random weights and the tokenizer's vocabulary."""
    tokenizer: (
        Annotated[TokenizerSettings | PublishedTokenizerSettings, Field(discriminator="kind")] | None
    ) = None
    """None: the tokenizer in the repository or folder of `model`."""
    pooling: Literal["cls", "mean", "last"] = "cls"
    """A text's feature: the first token's (comprehensive study), the mean over its tokens, or the last token's.

    With a trained tokenizer the default is `mean`, because it adds no [CLS].
    """
    max_length: PositiveInt = 300
    """Tokens of a text, or of a chunk, special tokens included."""
    max_chunks: PositiveInt = 1
    """Long texts are cut into at most this many chunks; the rest of the text is dropped."""
    chunk_pooling: Literal["mean", "max"] = "mean"
    """How the features of a text's chunks are combined."""
    dropout: Probability | None = None
    """All dropout rates of the model; None leaves each as it is."""
    gradient_checkpointing: bool = False
    """Saves memory by computing activations twice."""

    @model_validator(mode="before")
    @classmethod
    def _pooling_of_trained_tokenizers(cls, given: Any) -> Any:
        if (
            isinstance(given, dict)
            and "pooling" not in given
            and cls.model_fields["pooling"].default == "cls"
        ):
            tokenizer = given.get("tokenizer")
            kind = tokenizer.get("kind") if isinstance(tokenizer, dict) else getattr(tokenizer, "kind", None)
            if kind in ("word", "bpe"):
                return given | {"pooling": "mean"}
        return given

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.model is None) == (self.config is None):
            raise EncoderError("set either model (a hub id or a folder) or config (model_type and sizes)")
        if self.config is not None:
            if self.tokenizer is None:
                raise EncoderError("config: needs tokenizer, such as {kind: bpe, vocab_size: 8000}")
            if not isinstance(self.config.get("model_type"), str):
                raise EncoderError("config: needs model_type, such as bert")
            if "vocab_size" in self.config or "pad_token_id" in self.config:
                raise EncoderError("config: leave vocab_size and pad_token_id out, the tokenizer sets them")
        weights.check_pinned(self.model, self.revision)
        if self.pretrained and isinstance(self.tokenizer, TokenizerSettings):
            raise EncoderError(
                f"tokenizer: the weights of '{self.model}' need the model's own tokenizer; leave it out, or set "
                "weights: false"
            )
        return self

    @property
    def pretrained(self) -> bool:
        return self.model is not None and self.weights

    @property
    def weights_source(self) -> str | None:
        return self.model

    @property
    def tokenizer_source(self) -> str | None:
        return self.tokenizer.name if isinstance(self.tokenizer, PublishedTokenizerSettings) else None

    @property
    def tokens(self) -> dict[str, Any]:
        """What `mlcl.data` is told to make token ids with."""
        if self.tokenizer is not None:
            return self.tokenizer.model_dump(exclude_none=True)
        published = {"kind": "huggingface", "name": self.model, "revision": self.revision}
        return {key: value for key, value in published.items() if value is not None}


class LoraSettings(BaseModel):
    """Low-rank adapters (Hu et al., 2022): W + alpha / rank · B A, with B = 0 at the start."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rank: PositiveInt = 8
    alpha: PositiveInt = 16
    dropout: Probability = 0.0
    target_modules: Annotated[list[str], Field(min_length=1)] | Literal["all-linear"] = ["q_proj", "v_proj"]
    """Names of the layers that get adapters; the paper adapts queries and values."""


class DecoderSettings(HuggingFaceSettings):
    """A decoder model (Llama family) as an encoder of texts: its weights are frozen, adapters are trained."""

    pooling: Literal["mean", "last"] = "last"
    """No `cls`: with causal attention the first token does not depend on the others."""
    lora: LoraSettings = LoraSettings()
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the frozen weights; adapters are float32."""


@dataclass(frozen=True)
class EncoderInfo:
    """An entry of the catalog."""

    name: str
    """The family; a short name such as `resnet18` is its family with the setting `model`."""
    modality: Modality
    settings: type[EncoderSettings]
    module: str
    """A module with a function `build(settings, inputs)` that returns an `Encoder`."""
    learning_rate: float
    """Of AdamW, where the encoder starts from random weights and the study sets none: fine-tuning rates, such as the
    comprehensive study's 5e-5, are too low for it."""


@dataclass(frozen=True)
class InputShape:
    """The shape of an encoder's input; only the fields of its modality are read."""

    channels: int = 0
    height: int = 0
    width: int = 0
    vocab_size: int = 0
    pad_id: int = 0
    dimensions: int = 0


_FAMILIES: Mapping[str, EncoderInfo] = {
    info.name: info
    for info in (
        EncoderInfo("cnn", "image", CnnSettings, "mlcl.encoders.cnn", 5e-3),
        EncoderInfo("torchvision", "image", TorchvisionSettings, "mlcl.encoders.torchvision_backbone", 1e-3),
        EncoderInfo("timm", "image", TimmSettings, "mlcl.encoders.timm_backbone", 1e-3),
        EncoderInfo("transformer", "text", TransformerSettings, "mlcl.encoders.transformer", 4e-3),
        EncoderInfo("huggingface", "text", HuggingFaceSettings, "mlcl.encoders.huggingface", 1e-4),
        EncoderInfo("decoder", "text", DecoderSettings, "mlcl.encoders.decoder", 1e-4),
        EncoderInfo("mlp", "vector", MlpSettings, "mlcl.encoders.mlp", 1e-3),
    )
}


@dataclass(frozen=True)
class _Shorthand:
    """A short name: `resnet18: {}` stands for `{name: torchvision, model: resnet18}`."""

    family: str
    fixed: Mapping[str, str]
    defaults: Mapping[str, Any] = field(default_factory=dict)


def _text(model: str, revision: str | None, **defaults: Any) -> _Shorthand:
    """A text model of the hub; with `revision=None` the study must give one."""
    fixed = {"model": model} if revision is None else {"model": model, "revision": revision}
    return _Shorthand("huggingface", fixed, defaults)


_SHORTHANDS: Mapping[str, _Shorthand] = {
    **{model: _Shorthand("torchvision", {"model": model}) for model in TORCHVISION},
    **{model: _Shorthand("timm", {"model": model}) for model in ("tresnet_m", "tresnet_l")},
    "bert-base-uncased": _text("google-bert/bert-base-uncased", "86b5e0934494bd15c9632b12f734a8a67f723594"),
    "roberta-base": _text("FacebookAI/roberta-base", "e2da8e2f811d1448a5b465c236feacd80ffbac7b"),
    "distilroberta-base": _text("distilbert/distilroberta-base", "fb53ab8802853c8e4fbdbcd0529f21fc6f459b2b"),
    # Its card: mean over the tokens, texts cut at 256
    "all-MiniLM-L6-v2": _text(
        "sentence-transformers/all-MiniLM-L6-v2",
        "c9745ed1d9f207416be6d2e6f8de32d1f16199bf",
        pooling="mean",
        max_length=256,
    ),
    # Published models whose files are known by content (mlcl.published); MiniLM as its card says
    "minilm_l6": _Shorthand(
        "huggingface", {"model": "published:minilm_l6"}, {"pooling": "mean", "max_length": 256}
    ),
    "efficientnet_lite0": _Shorthand(
        "timm", {"model": "tf_efficientnet_lite0"}, {"weights": "published:efficientnet_lite0"}
    ),
    "ModernBERT-base": _text(
        "answerdotai/ModernBERT-base", "8949b909ec900327062f0ebf497f51aef5e6f0c8", max_length=4096
    ),
    "Clinical-Longformer": _text("yikuan8/Clinical-Longformer", None, max_length=4096),
}


def names() -> list[str]:
    """All names that a study may use."""
    return sorted({*_FAMILIES, *_SHORTHANDS})


def describe(name: str) -> EncoderInfo:
    """Raises KeyError for a name that is not in `names()`."""
    return _shorthand(name) if name in _SHORTHANDS else _FAMILIES[name]


@cache
def _shorthand(name: str) -> EncoderInfo:
    """The model's family, with settings in which the model is fixed and its own defaults are set."""
    shorthand = _SHORTHANDS[name]
    family = _FAMILIES[shorthand.family]
    fields: dict[str, Any] = {key: (Literal[value], value) for key, value in shorthand.fixed.items()}
    for key, value in shorthand.defaults.items():
        info = family.settings.model_fields[key]
        fields[key] = (Annotated[info.annotation, *info.metadata, Field()], value)
    settings = create_model(f"{family.settings.__name__}[{name}]", __base__=family.settings, **fields)
    return EncoderInfo(family.name, family.modality, settings, family.module, family.learning_rate)


def create(name: str, settings: Mapping[str, Any], inputs: InputShape) -> Encoder:
    """Builds the encoder; random weights are drawn from torch's global generator.

    The module maps a batch of its modality (`mlcl.encoders.base.Batch`) to features (B, `feature_dim`). Raises
    EncoderError if the inputs or the stored weights do not fit the encoder.
    """
    info = describe(name)
    module = importlib.import_module(info.module)
    encoder: Encoder = module.build(info.settings.model_validate(settings), inputs)
    return encoder


def local_sources(name: str, settings: Mapping[str, Any]) -> list[str]:
    """The local files and folders of an encoder's weights and tokenizer, as the study names them."""
    return [source for source in _sources(name, settings) if weights.kind(source) == "local"]


def _sources(name: str, settings: Mapping[str, Any]) -> list[str]:
    checked = describe(name).settings.model_validate(settings)
    sources = (checked.weights_source, checked.tokenizer_source)
    return [source for source in sources if source is not None]


def weights_digest(name: str, settings: Mapping[str, Any]) -> str | None:
    """The hash of the local or published weights and tokenizer that an encoder starts from; part of a fingerprint.

    None if it uses none, or if name and revision determine them. Raises EncoderError if the files do not exist.
    """
    digests = [weights.digest(source) for source in _sources(name, settings)]
    return ":".join(digest for digest in digests if digest is not None) or None
