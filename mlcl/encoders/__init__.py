"""Encoders by name: what turns images, texts or vectors into features (B, feature_dim).

Names and settings are known without importing torch; `create` and `cost` import what they build.
"""

from __future__ import annotations

from mlcl.encoders.catalog import (
    EncoderInfo,
    InputShape,
    create,
    describe,
    local_sources,
    names,
    weights_digest,
)
from mlcl.encoders.errors import EncoderError
from mlcl.encoders.flops import Cost, cost

__all__ = [
    "Cost",
    "EncoderError",
    "EncoderInfo",
    "InputShape",
    "cost",
    "create",
    "describe",
    "local_sources",
    "names",
    "weights_digest",
]
