"""Fixtures of all tests."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Raw files of real datasets; tests that need them are skipped where there are none."""
    named = os.environ.get("MLCL_DATA_ROOT")
    root = Path(named) if named else Path(__file__).parents[2] / "shared" / "data"
    if not root.is_dir():
        pytest.skip(f"no raw data at {root}; set MLCL_DATA_ROOT to a folder that holds some")
    return root
