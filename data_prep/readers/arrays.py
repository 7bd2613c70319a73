"""Files of numpy arrays (.npy) that somebody else wrote."""

from __future__ import annotations

from tokenize import TokenError
from typing import Any

UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    SyntaxError,
    TypeError,
    MemoryError,
    OverflowError,
    TokenError,
)
"""What `numpy.load(path, allow_pickle=False)` raises for a damaged file or one of another kind: numpy parses the header
as Python text."""


def is_numeric_matrix(array: Any) -> bool:
    """Is it an array of real numbers or truth values with two dimensions? An .npz file is loaded as something else."""
    import numpy as np

    return isinstance(array, np.ndarray) and array.ndim == 2 and array.dtype.kind in "fiub"
