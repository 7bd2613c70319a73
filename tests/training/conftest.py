"""Fixtures of the tests of training: the tiny datasets of `tiny`."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

from tiny import images, texts, vectors

__all__ = ["images", "texts", "vectors"]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
