"""The one error of this package, and the help it gives."""

from collections.abc import Iterable
from difflib import get_close_matches


class DataError(Exception):
    """A dataset cannot be planned, prepared or opened. The message says which file, row or setting is at
    fault, what is allowed, and what to do."""


def closest(wrong: str, valid: Iterable[str]) -> str:
    """A half sentence that names the valid names, the most similar ones first where there are any."""
    names = sorted(valid)
    similar = get_close_matches(wrong, names, n=3, cutoff=0.5)
    if similar:
        return f"did you mean {' or '.join(similar)}?"
    return f"valid are {', '.join(names)}" if names else "there are none"
