"""Text models of the transformers library: from its hub, from a local folder, or from a configuration.

Weights are read from safetensors only, and no code from a repository is ever run.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from logging import ERROR, getLogger
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from transformers import (
    MODEL_MAPPING,
    AttentionInterface,
    AttentionMaskInterface,
    AutoConfig,
    AutoModel,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.utils import logging

from mlcl.encoders import weights
from mlcl.encoders.base import Encoder, TokenBatch
from mlcl.encoders.catalog import HuggingFaceSettings, InputShape, TokenizerSettings
from mlcl.encoders.errors import EncoderError
from mlcl.suggest import closest

MASKED_SDPA = "mlcl_masked_sdpa"
TokenPooling = Literal["cls", "mean", "last"]
ChunkPooling = Literal["mean", "max"]


def _always_a_mask(*args: Any, **kwargs: Any) -> torch.Tensor | None:
    """The library's mask, without its check whether one is needed, which would synchronise with the GPU."""
    return sdpa_mask(*args, **kwargs | {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": False})


AttentionInterface.register(MASKED_SDPA, sdpa_attention_forward)
AttentionMaskInterface.register(MASKED_SDPA, _always_a_mask)


class HuggingFace(Encoder):
    """A model without pooling layer or head; a text's feature is read from its last hidden states."""

    def __init__(self, model: nn.Module, feature_dim: int, settings: HuggingFaceSettings) -> None:
        super().__init__()
        self.feature_dim, self.model = feature_dim, model
        self.pooling, self.chunk_pooling = settings.pooling, settings.chunk_pooling
        parameters = inspect.signature(_base_model(model).forward).parameters
        self._global_attention = "global_attention_mask" in parameters
        self._options = {"use_cache": False} if "use_cache" in parameters else {}

    def forward(self, batch: TokenBatch) -> torch.Tensor:
        """A TokenBatch of at most `max_length` tokens a row -> features (texts, feature_dim), float32."""
        attention_mask = batch.attention_mask.long()
        options: dict[str, Any] = dict(self._options)
        if self._global_attention:  # Longformer: the first token attends to all others, and they to it
            options["global_attention_mask"] = torch.zeros_like(attention_mask)
            options["global_attention_mask"][:, 0] = 1
        states = self.model(input_ids=batch.ids, attention_mask=attention_mask, **options).last_hidden_state
        features = pool_tokens(states, batch.attention_mask, self.pooling)
        return pool_chunks(features, batch, self.chunk_pooling)


def pool_tokens(states: torch.Tensor, attention_mask: torch.Tensor, how: TokenPooling) -> torch.Tensor:
    """States (N, T, D) and attention mask (N, T) bool, at least one True in every row -> float32 (N, D)."""
    match how:
        case "cls":
            return states[:, 0].float()
        case "last":
            places = torch.arange(attention_mask.shape[1], device=attention_mask.device)
            last = torch.where(attention_mask, places, 0).amax(dim=1)
            rows = torch.arange(len(states), device=states.device)
            return states[rows, last].float()
        case "mean":
            total = torch.where(attention_mask[:, :, None], states, 0).sum(dim=1, dtype=torch.float32)
            return total / attention_mask.sum(dim=1, keepdim=True)


def pool_chunks(features: torch.Tensor, batch: TokenBatch, how: ChunkPooling) -> torch.Tensor:
    """Features (N, D) of chunks -> features (`batch.texts`, D); every chunk of a text counts the same."""
    if batch.text is None:
        return features
    pooled = features.new_zeros(batch.texts, features.shape[1])
    if how == "max":
        places = batch.text[:, None].expand_as(features)
        return pooled.scatter_reduce(0, places, features, "amax", include_self=False)
    chunks = features.new_zeros(batch.texts).index_add(0, batch.text, features.new_ones(len(features)))
    return pooled.index_add(0, batch.text, features) / chunks[:, None]


def build(settings: HuggingFaceSettings, inputs: InputShape) -> HuggingFace:
    """Raises EncoderError if the model cannot be loaded, or does not fit the tokenizer or the settings."""
    model = load(settings, inputs)
    return HuggingFace(model, feature_dim(model), settings)


def load(
    settings: HuggingFaceSettings, inputs: InputShape, dtype: torch.dtype = torch.float32
) -> PreTrainedModel:
    """The bare model with all settings but pooling applied; random weights come from torch's global generator."""
    where = settings.model or f"config of model_type {(settings.config or {}).get('model_type')}"
    folder = None
    if settings.model is not None:
        files = weights.WEIGHT_FILES if settings.weights else ("config.json",)
        folder = weights.folder(settings.model, settings.revision, files)
    config = _config(settings, inputs, folder, where)
    model_class = _model_class(config, where)
    getLogger(model_class.__module__).setLevel(ERROR)  # Longformer logs each padding of its inputs
    options: dict[str, Any] = {"dtype": dtype}
    if "add_pooling_layer" in inspect.signature(model_class.__init__).parameters:
        options["add_pooling_layer"] = False
    with quiet():
        if folder is not None and settings.weights:
            model = _stored(folder, config, options, where)
        else:
            model = AutoModel.from_config(config, trust_remote_code=False, **options)
        if settings.gradient_checkpointing:
            if not model.supports_gradient_checkpointing:
                raise EncoderError(f"{where}: does not support gradient checkpointing; leave it out")
            model.gradient_checkpointing_enable({"use_reentrant": False})
    _check_tokens(model, settings, inputs, where)
    if model.config._attn_implementation == "sdpa":
        model.set_attn_implementation(MASKED_SDPA)
    return model


def feature_dim(model: PreTrainedModel) -> int:
    return int(model.config.get_text_config().hidden_size)


def _base_model(model: nn.Module) -> nn.Module:
    """The library's model itself, without adapters around it."""
    inner = getattr(model, "get_base_model", None)
    return inner() if inner is not None else model


def _config(
    settings: HuggingFaceSettings, inputs: InputShape, folder: Path | None, where: str
) -> PretrainedConfig:
    try:
        if folder is not None:
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        else:
            config = _new_config(settings.config or {}, where)
    except (OSError, ValueError, KeyError) as error:
        if isinstance(error, EncoderError):
            raise
        raise EncoderError(f"{where}: its configuration cannot be read ({_first_line(error)})") from error
    if folder is None or isinstance(settings.tokenizer, TokenizerSettings):
        config.vocab_size, config.pad_token_id = inputs.vocab_size, inputs.pad_id
    if settings.dropout is not None:
        rates = [name for name, value in config.to_dict().items() if "dropout" in name and _is_number(value)]
        if not rates:
            raise EncoderError(f"{where}: has no dropout to set; leave dropout out")
        for name in rates:
            setattr(config, name, settings.dropout)
    return config


def _new_config(config: dict[str, Any], where: str) -> PretrainedConfig:
    """A configuration from model_type and sizes. Unknown names are errors, which the library would accept."""
    fields = {name: value for name, value in config.items() if name != "model_type"}
    default = AutoConfig.for_model(config["model_type"])
    known = set(default.to_dict()) | set(default.attribute_map)
    for name in fields:
        if name not in known:
            raise EncoderError(f"{where}: has no setting {name!r}; {closest(name, known)}")
    return AutoConfig.for_model(config["model_type"], **fields)


def _model_class(config: PretrainedConfig, where: str) -> type[PreTrainedModel]:
    if config.is_encoder_decoder:
        raise EncoderError(f"{where}: is an encoder-decoder model; take an encoder or a decoder")
    try:
        classes = MODEL_MAPPING[type(config)]
    except KeyError:
        raise EncoderError(f"{where}: transformers has no model of type {config.model_type!r}") from None
    chosen: Any = classes[0] if isinstance(classes, (list, tuple)) else classes
    return chosen


def _stored(folder: Path, config: PretrainedConfig, options: dict[str, Any], where: str) -> PreTrainedModel:
    weights.files(folder)
    try:
        model, report = AutoModel.from_pretrained(
            folder,
            config=config,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            **options,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise EncoderError(f"{where}: weights cannot be loaded ({_first_line(error)})") from error
    if missing := sorted(report["missing_keys"]):
        raise EncoderError(
            f"{where}: is not this model's: {len(missing)} weights are missing, among them {', '.join(missing[:3])}"
        )
    return model


def _check_tokens(
    model: PreTrainedModel, settings: HuggingFaceSettings, inputs: InputShape, where: str
) -> None:
    """Raises EncoderError unless there are embeddings for all token ids and positions."""
    vocabulary = int(model.config.get_text_config().vocab_size)
    if inputs.vocab_size > vocabulary:
        raise EncoderError(
            f"{where}: has embeddings of {vocabulary} tokens, the tokenizer has {inputs.vocab_size} tokens; "
            "name the tokenizer of this model"
        )
    positions: int | None = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            # RoBERTa and its kin count positions from padding_idx + 1
            positions = module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
    if positions is not None and settings.max_length > positions:
        raise EncoderError(
            f"{where}: takes at most {positions} tokens; set max_length to {positions} or less"
        )


@contextmanager
def quiet() -> Iterator[None]:
    """Suppresses reports of unused weights, such as a language model's head, and warnings of future versions."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings(action="ignore", category=FutureWarning):
            yield
    finally:
        logging.set_verbosity(before)
        logging.enable_progress_bar()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
