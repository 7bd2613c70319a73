"""Nested mappings, such as settings, results and metrics, as one flat one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def flatten(content: Any, prefix: str = "") -> dict[str, Any]:
    """Path of keys, joined by dots -> value, for all values that are no mapping; `content` itself under "" if it is
    none."""
    if not isinstance(content, Mapping):
        return {prefix: content}
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat |= flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return flat
