"""The definitions that records were made by: `results/<study>/code/<digest>.json`, one file for all records alike.

A record holds only the digest of its code; the file says what that is made of, so that a difference has a name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from mlcl.digests import is_sealed, sealed
from mlcl.records.files import write_json

FOLDER = "code"


def definitions_file(results: Path, digest: str) -> Path:
    """In the folder `results/<study>`."""
    return results / FOLDER / f"{digest[:16]}.json"


def write_definitions(results: Path, digest: str, definitions: Mapping[str, str]) -> None:
    """definitions: `module.name` -> a digest of it alone."""
    file = definitions_file(results, digest)
    if read_definitions(results, digest) is None:
        write_json(file, sealed({"format": 1, "digest": digest, "definitions": dict(definitions)}))


def read_definitions(results: Path, digest: str) -> dict[str, str] | None:
    """None where the list is not there or not what was written: it serves to explain, nothing depends on it."""
    try:
        content = json.loads(definitions_file(results, digest).read_text(encoding="utf-8"))
        return dict(content["definitions"]) if is_sealed(content) and content["digest"] == digest else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
