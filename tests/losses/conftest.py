import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Tests share the machine with others, and their sums must not depend on the number of threads."""
    torch.set_num_threads(1)
