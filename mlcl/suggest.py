"""Suggestions for misspelt names in error messages. On the ground floor, so that every package can use it."""

from collections.abc import Iterable
from difflib import get_close_matches

MAX_LISTED = 40


def closest(wrong: str, valid: Iterable[str]) -> str:
    """The similar names, if any, and all valid names (the first 40), as the end of an error message."""
    names = sorted(map(str, valid))
    if not names:
        return "there are none"
    similar = get_close_matches(wrong, names, n=3, cutoff=0.5)
    more = f", ... ({len(names)} in all)" if len(names) > MAX_LISTED else ""
    listed = f"valid are {', '.join(names[:MAX_LISTED])}{more}"
    return f"did you mean {' or '.join(similar)}? {listed}" if similar else listed
