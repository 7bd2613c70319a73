"""Encoders by name: what turns images, texts or vectors into features (B, feature_dim).

Names and settings are known without importing torch; `create` imports what it builds.
"""

from __future__ import annotations

from mlcl.encoders.catalog import EncoderInfo, InputShape, create, describe, names

__all__ = ["EncoderInfo", "InputShape", "create", "describe", "names"]
