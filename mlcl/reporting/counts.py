"""Counts in plain grammar."""

from __future__ import annotations


def counted(n: int, noun: str) -> str:
    """`1 dataset`, `2 datasets`, `3 losses`."""
    if n == 1:
        return f"1 {noun}"
    return f"{n:,} {noun}{'es' if noun.endswith('s') else 's'}"
