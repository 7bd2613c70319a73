"""The one error of this package, and its suggestions for misspelt names."""

from mlcl.suggest import closest

__all__ = ["DataError", "closest"]


class DataError(Exception):
    """A dataset cannot be planned, prepared or opened. The message says which file, row or setting is at
    fault, what is allowed, and what to do."""
