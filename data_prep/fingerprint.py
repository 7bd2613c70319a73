"""What a prepared dataset depends on, as one hash.

Settings, the code that makes the content (what its source module's `SOURCE` and the writer pass through, the `ABOUT`
text left out), the versions of the packages that are themselves the raw material, and the content of the raw files. The
place of the data root, file times and the order of settings play no part.
"""

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from data_prep.definitions import Project, Reached

PACKAGE = Path(__file__).parent
# Only these make content; planning, downloading and command line do not.
CONTENT = ("sources", "readers", "writer", "format", "unknown_labels")
WRITER = "data_prep.writer.DatasetWriter"


def fingerprint(
    stem: str, settings: Mapping[str, Any], versions: Mapping[str, str], raw: Mapping[str, str]
) -> str:
    """The sha256 (hex) of a dataset made by source module `stem`."""
    parts = {
        "source": stem,
        "settings": settings,
        "code": code(stem, PACKAGE).digest,
        "versions": versions,
        "raw": raw,
    }
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


@cache
def code(stem: str, package: Path) -> Reached:
    """The definitions that the content of a source's datasets passes through; `package`: this one, or a copy of it."""
    entries = (f"data_prep.sources.{stem}.SOURCE", WRITER)
    return _project(package).reach(entries, enters=_makes_content)


@cache
def _project(package: Path) -> Project:
    return Project({"data_prep": package})


def _makes_content(name: str) -> bool:
    parts = name.split(".")
    return parts[1] in CONTENT and parts[-1] != "ABOUT"
