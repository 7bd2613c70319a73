"""Parameters and operations of an encoder, counted from its structure: no weights, no arithmetic, no download.

Matrix products and convolutions are counted (torch.utils.flop_counter), a multiply-add as two operations; the rest of a
forward pass is negligible. A training step costs about three forward passes.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mlcl.encoders.catalog import (
    BackboneSettings,
    EncoderInfo,
    EncoderSettings,
    HuggingFaceSettings,
    InputShape,
    describe,
)
from mlcl.encoders.errors import EncoderError
from mlcl.offline import no_downloads

if TYPE_CHECKING:
    from mlcl.encoders.base import Batch, Encoder

TOKENS = 128
"""Assumed length of a text where the caller gives none."""
_BATCH = 2  # some layers refuse a batch of one


@dataclass(frozen=True)
class Cost:
    """parameters: their number, without any head; forward_flops_per_example; feature_dim."""

    parameters: int
    forward_flops_per_example: float
    feature_dim: int


@dataclass(frozen=True)
class _Published:
    """Shape of a published transformer.

    kv: width of keys and values (0: dim); gated: three feed-forward matrices instead of two; further: additional
    matrices (dim, dim) in a layer; window: largest number of tokens that a token attends to (0: all).
    """

    parameters: int
    layers: int
    dim: int
    feedforward: int
    kv: int = 0
    gated: bool = False
    further: int = 0
    window: int = 0

    def cost(self, tokens: int) -> Cost:
        attention = (2 + self.further) * self.dim * self.dim + 2 * self.dim * (self.kv or self.dim)
        matrices = attention + (3 if self.gated else 2) * self.dim * self.feedforward
        attended = min(tokens, self.window or tokens)
        per_layer = 2 * tokens * matrices + 4 * tokens * attended * self.dim
        return Cost(self.parameters, float(self.layers * per_layer), self.dim)


PUBLISHED: Mapping[str, _Published] = {
    "bert-base-uncased": _Published(108_891_648, 12, 768, 3072),
    "bert-large-uncased": _Published(334_092_288, 24, 1024, 4096),
    "roberta-base": _Published(124_055_040, 12, 768, 3072),
    "roberta-large": _Published(354_310_144, 24, 1024, 4096),
    "distilbert-base-uncased": _Published(66_362_880, 6, 768, 3072),
    "distilroberta-base": _Published(81_527_808, 6, 768, 3072),
    "all-MiniLM-L6-v2": _Published(22_565_376, 6, 384, 1536),
    "all-mpnet-base-v2": _Published(108_895_872, 12, 768, 3072),
    "ModernBERT-base": _Published(149_014_272, 22, 768, 1152, gated=True),  # counts all tokens in each layer
    # Keys and values of the global tokens are computed for all; a window of 512 in overlapping blocks of 1,024.
    "Clinical-Longformer": _Published(148_068_864, 12, 768, 3072, further=2, window=1024),
    "Llama-2-7b-hf": _Published(6_607_343_616, 32, 4096, 11008, gated=True),
    "Meta-Llama-3-8B": _Published(7_504_924_672, 32, 4096, 14336, kv=1024, gated=True),
    "Llama-3.1-8B": _Published(7_504_924_672, 32, 4096, 14336, kv=1024, gated=True),
    "Llama-3.2-1B": _Published(1_235_814_400, 16, 2048, 8192, kv=512, gated=True),
    "Llama-3.2-3B": _Published(3_212_749_824, 28, 3072, 8192, kv=1024, gated=True),
}
"""Hub ids without owner -> shape, for estimates without the model's configuration: public facts of its config.json
(layers, hidden_size, intermediate_size, key and value heads × head size), and the number of parameters without pooler
and head, summed over the layers."""


def cost(name: str, settings: Mapping[str, Any], inputs: InputShape, tokens: int = TOKENS) -> Cost:
    """The cost of an encoder and of a forward pass of one example.

    `tokens`: the length of a text, which the encoder's settings may truncate or cut into chunks. Raises EncoderError if
    the cost cannot be determined, such as for a hub id whose configuration is not in the local cache.
    """
    info = describe(name)
    checked = info.settings.model_validate(settings)
    longest: int = getattr(checked, "max_length", tokens)
    chunks = min(getattr(checked, "max_chunks", 1), math.ceil(tokens / longest))
    cost_of_chunk = _cost_of_chunk(info, checked, inputs, min(tokens, longest))
    return replace(cost_of_chunk, forward_flops_per_example=chunks * cost_of_chunk.forward_flops_per_example)


def _cost_of_chunk(info: EncoderInfo, settings: EncoderSettings, inputs: InputShape, tokens: int) -> Cost:
    try:
        with no_downloads():
            return _count(_skeleton(info, settings, inputs), info, inputs, tokens)
    except EncoderError:
        published = PUBLISHED.get(str(getattr(settings, "model", "")).rsplit("/", 1)[-1])
        if info.modality == "text" and published:
            return published.cost(tokens)
        raise


def _skeleton(info: EncoderInfo, settings: EncoderSettings, inputs: InputShape) -> Encoder:
    """The encoder without stored weights, on the meta device.

    Raises EncoderError if its configuration is on the hub and not in the local cache.
    """
    import torch

    make = importlib.import_module(info.module).build
    bare = settings
    if isinstance(settings, BackboneSettings):
        bare = settings.model_copy(update={"weights": None, "revision": None})
    elif isinstance(settings, HuggingFaceSettings):
        bare = settings.model_copy(update={"weights": False})
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                encoder: Encoder = make(bare, inputs)
        except NotImplementedError:  # code that reads values when it is built, such as RegNet's
            encoder = make(bare, inputs)
    return encoder.to("meta")


def _count(encoder: Encoder, info: EncoderInfo, inputs: InputShape, tokens: int) -> Cost:
    try:
        flops = forward_flops(encoder, _batch(info, inputs, tokens))
    except (
        RuntimeError,
        NotImplementedError,
    ) as error:  # forward passes that read values, such as Longformer's
        reason = str(error).strip().splitlines()[0]
        raise EncoderError(
            f"{info.name}: its operations cannot be counted without running it ({reason})"
        ) from error
    parameters = sum(parameter.numel() for parameter in encoder.parameters())
    return Cost(parameters, flops / _BATCH, encoder.feature_dim)


def forward_flops(encoder: Encoder, batch: Batch) -> int:
    """Operations of a forward pass over a batch. Leaves the encoder in evaluation mode.

    Gradients are on, because there are no formulas for torch's fused attention for inference.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.flop_counter import flop_registry

    class Counter(TorchDispatchMode):
        """Adds up torch's formulas. torch's own FlopCounterMode gives the same number, but imports the compiler."""

        total = 0

        @classmethod
        def _should_skip_dynamo(cls) -> bool:
            return False  # True imports the compiler, to keep it out

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            formula: Any = flop_registry.get(func._overloadpacket)
            if formula is None and func is not torch.ops.prim.device.default:
                with self:
                    result = func.decompose(*args, **kwargs)
                if result is not NotImplemented:
                    return result
            result = func(*args, **kwargs)
            if formula is not None:
                self.total += formula(*args, **kwargs, out_val=result)
            return result

    encoder.eval()
    with Counter() as counter:
        encoder(batch)
    return counter.total


def _batch(info: EncoderInfo, inputs: InputShape, tokens: int) -> Batch:
    import torch

    from mlcl.encoders.base import TokenBatch

    with torch.device("meta"):
        match info.modality:
            case "image":
                return torch.empty(_BATCH, inputs.channels, inputs.height, inputs.width)
            case "vector":
                return torch.empty(_BATCH, inputs.dimensions)
            case _:
                ids = torch.zeros(_BATCH, tokens, dtype=torch.int64)
                return TokenBatch(ids, torch.ones(_BATCH, tokens, dtype=torch.bool), texts=_BATCH)
