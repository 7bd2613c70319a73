"""The format number of files that outlive a run: records, outlines, collected results, checkpoints, models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlcl.errors import RecordError

FORMAT = 2
"""Written as `format` into each of these files; to be raised when what older versions wrote can no longer be read.

2: metrics and scores by readout.
"""


def require_format(content: Mapping[str, Any], file: Path, make_again: str) -> None:
    """Raises RecordError unless `content`, read from `file`, has the format of this version.

    `make_again` says what to do with a file of an older version, such as 'plan the study again'.
    """
    number = content.get("format")
    if number == FORMAT:
        return
    if isinstance(number, int) and number > FORMAT:
        raise RecordError(
            f"{file}: has format {number}, this version of mlcl reads format {FORMAT}; update mlcl"
        )
    described = "has no format number" if number is None else f"has format {number!r}"
    raise RecordError(f"{file}: {described}, this version of mlcl reads format {FORMAT}; {make_again}")
