"""Where randomness comes from: every use has its own stream, a function of the cell's seed alone.

No stream depends on the loss, the grid or what ran before, so that losses are compared on equal terms: the same
initial encoder, the same order of batches.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import torch

Purpose = Literal[
    "encoder",
    "projection",
    "classifier",
    "loss",
    "order",
    "augmentation",
    "dropout",
    "subset",
    "linear_evaluation",
    "random_scores",
]


def seed_of(seed: int, purpose: Purpose) -> int:
    """A stable 63-bit seed for one purpose in the cells of `seed`."""
    return int.from_bytes(hashlib.sha256(f"{purpose}/{seed}".encode()).digest()[:8], "big") >> 1


def generator(seed: int, purpose: Purpose) -> torch.Generator:
    """A generator on the CPU for one purpose."""
    return torch.Generator().manual_seed(seed_of(seed, purpose))


def seed_globally(seed: int, purpose: Purpose) -> None:
    """Seeds torch's global generators: for module initialisation and dropout, which take no generator."""
    torch.manual_seed(seed_of(seed, purpose))
