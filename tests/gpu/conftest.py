"""What the tests on a GPU share: the device, and the small cases of the tests of losses and training.

They are skipped where there is no GPU. `MLCL_TEST_DEVICE=cpu` runs those that can on the CPU, to rehearse them.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "losses"))
sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

from tiny import images, texts, vectors

__all__ = ["images", "texts", "vectors"]

DEVICE = os.environ.get("MLCL_TEST_DEVICE", "cuda")


@pytest.fixture(scope="session")
def device() -> str:
    """Where to compute: cuda, or cpu in a rehearsal."""
    if DEVICE == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU, and there is none; MLCL_TEST_DEVICE=cpu rehearses on the CPU")
    return DEVICE


@pytest.fixture(scope="session")
def cuda(device: str) -> str:
    """For tests that mean nothing on a CPU."""
    if device != "cuda":
        pytest.skip("needs a CUDA GPU, also in a rehearsal")
    return device
