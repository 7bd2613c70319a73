"""What took long to compute, kept in a file under a digest of all that it depends on: only what changed is new."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlcl.study.files import write_json


class Kept:
    """Entries of earlier runs, as JSON; those that are no longer asked for are dropped when it is written."""

    def __init__(self, file: Path) -> None:
        self._file = file
        try:
            self._before: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            self._before = {}
        self._used: dict[str, Any] = {}

    def get(self, digest: str, compute: Callable[[], Any]) -> Any:
        """The entry; computed if there is none yet."""
        if digest not in self._used:
            self._used[digest] = self._before[digest] if digest in self._before else compute()
        return self._used[digest]

    def write(self) -> None:
        if self._used != self._before:
            write_json(self._file, self._used)
