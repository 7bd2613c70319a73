"""Decoder models (Llama family) as encoders of texts: weights stay as they are, low-rank adapters are trained.

Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, ICLR 2022; through the peft library.
"""

from __future__ import annotations

import torch
from peft import LoraConfig, get_peft_model

from mlcl.encoders.catalog import DecoderSettings, InputShape
from mlcl.encoders.errors import EncoderError
from mlcl.encoders.huggingface import HuggingFace, feature_dim, load, quiet


def build(settings: DecoderSettings, inputs: InputShape) -> HuggingFace:
    """The model with adapters, which alone require gradients; they are part of `state_dict`.

    Raises EncoderError if the model cannot be loaded, does not fit the tokenizer or the settings, or has none of the
    target modules.
    """
    model = load(settings, inputs, getattr(torch, settings.dtype))
    width = feature_dim(model)
    lora = settings.lora
    targets = lora.target_modules
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
    )
    try:
        with quiet():
            adapted = get_peft_model(model, config)
    except ValueError as error:
        raise EncoderError(f"lora: {str(error).strip().splitlines()[0]}") from error
    return HuggingFace(adapted, width, settings)
