"""Fixtures of all tests."""

import os
import signal
from pathlib import Path

import pytest

os.environ.setdefault("MLCL_OFFLINE", "1")  # no test reaches for the network by accident

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Shells start what they run in the background so, and everything that a test starts would ignore Ctrl-C, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Raw files of real datasets; tests that need them are skipped where there are none."""
    named = os.environ.get("MLCL_DATA_ROOT")
    root = Path(named) if named else Path(__file__).parents[2] / "shared" / "data"
    if not root.is_dir():
        pytest.skip(f"no raw data at {root}; set MLCL_DATA_ROOT to a folder that holds some")
    return root
