"""What the campaign finds: one file of JSON lines, added to by every step as soon as it knows something."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FILE = "results.jsonl"


def add(file: Path | None, step: str, **found: Any) -> None:
    """Append one line. A single write, so that lines of processes that run at once do not mix."""
    if file is None:
        return
    line = json.dumps({"step": step, **found}) + "\n"
    with file.open("a", encoding="utf-8", buffering=1 << 20) as stream:
        stream.write(line)


def read(file: Path, step: str) -> Iterator[dict[str, Any]]:
    """The lines of one step in the order in which they were written; a line cut off by a kill is left out."""
    if not file.exists():
        return
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if found.get("step") == step:
            yield found
