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


class NewerFormatError(RecordError):
    """The file was written by a later version of mlcl. It is no damage: nothing may take its place."""


def require_format(content: Mapping[str, Any], file: Path, make_again: str) -> None:
    """Raises RecordError unless `content`, read from `file`, has the format of this version; NewerFormatError where
    it has a higher number.

    `make_again` says what to do with a file of an older version, such as 'plan the study again'.
    """
    number = content.get("format")
    if number == FORMAT:
        return
    if isinstance(number, int) and number > FORMAT:
        raise NewerFormatError(
            f"{file}: has format {number}, this version of mlcl reads format {FORMAT}; update mlcl"
        )
    described = "has no format number" if number is None else f"has format {number!r}"
    raise RecordError(f"{file}: {described}, this version of mlcl reads format {FORMAT}; {make_again}")
