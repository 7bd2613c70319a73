"""Whether downloads are allowed, for datasets, tokenizers and stored weights alike."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

SWITCHES = ("MLCL_OFFLINE", "HF_HUB_OFFLINE")
"""Environment variables; any value but 0, false and the empty one forbids downloads."""

_allowed: ContextVar[bool] = ContextVar("downloads allowed", default=True)


def offline() -> str | None:
    """Why nothing may be downloaded, as part of a message; None where downloads are allowed."""
    if any(os.environ.get(name, "").lower() not in ("", "0", "false") for name in SWITCHES):
        return f"downloads are switched off ({' or '.join(SWITCHES)})"
    return None if _allowed.get() else "nothing is downloaded for an estimate"


@contextmanager
def no_downloads() -> Iterator[None]:
    """Forbids downloads in a block, for planning and estimates."""
    before = _allowed.set(False)
    try:
        yield
    finally:
        _allowed.reset(before)
