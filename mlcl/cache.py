"""Where this user's caches lie on this machine: `$MLCL_CACHE`, or `mlcl` in the usual folder for caches."""

import os
from pathlib import Path


def cache_folder() -> Path | None:
    """None where the user has no home. The folder need not exist, and all that lies in it can be made again."""
    if own := os.environ.get("MLCL_CACHE"):
        return Path(own)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlcl"
    except RuntimeError:
        return None
