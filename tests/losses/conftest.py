import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
# The helpers beside the tests, and the benchmarks, which are compared with the golden values.
sys.path[:0] = [str(Path(__file__).parent), str(ROOT)]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Tests share the machine with others, and their sums must not depend on the number of threads."""
    torch.set_num_threads(1)
