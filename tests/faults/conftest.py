"""What all tests of faults share."""

import os
from pathlib import Path

import pytest

from tests.synthetic import grid

__all__ = ["grid"]


@pytest.fixture
def quick_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for thousands of small preparations: its own memory of checksums, and no waiting for the disk."""
    monkeypatch.setenv("MLCL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(os, "fsync", lambda _: None)
    return tmp_path
