"""Prepared datasets: opened in milliseconds, memory-mapped, shared by all processes through the page cache."""

from mlcl.data.dataset import PreparedDataset, Split, open_dataset
from mlcl.data.subsets import subset
from mlcl.data.tokens import Tokens

__all__ = ["PreparedDataset", "Split", "Tokens", "open_dataset", "subset"]
