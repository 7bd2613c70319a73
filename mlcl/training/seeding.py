"""Random streams: every use of random numbers has its own, a function of its purpose and the cell's seed alone.

No stream depends on the loss, the grid or what ran before, so that losses are compared on equal terms: the same
initial encoder, the same order of batches.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Literal

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
"""These names are hashed into seeds: renaming one changes results."""


def seed_of(seed: int, purpose: Purpose) -> int:
    """A stable 63-bit seed for one purpose in the cells of `seed`."""
    return int.from_bytes(hashlib.sha256(f"{purpose}/{seed}".encode()).digest()[:8], "big") >> 1


def generator(seed: int, purpose: Purpose) -> torch.Generator:
    """A CPU generator for one purpose."""
    return torch.Generator().manual_seed(seed_of(seed, purpose))


def seed_globally(seed: int, purpose: Purpose) -> None:
    """Seeds torch's global generators: for module initialisation and dropout, which take no generator."""
    torch.manual_seed(seed_of(seed, purpose))


@dataclass(frozen=True)
class Randomness:
    """The streams that the training loop draws from. Dropout and the like draw from torch's global one."""

    order: torch.Generator
    augmentation: torch.Generator

    def offset_streams_by_rank(self, rank: int) -> None:
        """Gives each process its own augmentation and dropout; the order of batches stays the same for all."""
        if rank > 0:
            self.augmentation.manual_seed(self.augmentation.initial_seed() + rank)
            torch.manual_seed(torch.initial_seed() + rank)

    def state(self) -> dict[str, Any]:
        """The state of all streams but `order`, which the loop stores as it was at the beginning of the epoch."""
        device = [torch.cuda.get_rng_state()] if torch.cuda.is_initialized() else []
        return {
            "augmentation": self.augmentation.get_state(),
            "host": torch.get_rng_state(),
            "device": device,
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.augmentation.set_state(state["augmentation"])
        torch.set_rng_state(state["host"])
        for device in state["device"]:
            torch.cuda.set_rng_state(device)
