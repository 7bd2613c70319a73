"""What reporting could not make: one table or figure that fails is shown as failed in its place, the others go on.

The failures of a study's tables, figures and report are kept in one file, so that a run ends with an exit code other
than 0 although all else was made.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TypeVar

from mlcl.records.files import write_json
from mlcl.records.paths import StudyPaths

FILE = "reporting_failures.json"
log = logging.getLogger(__name__)
Made = TypeVar("Made")


@dataclass(frozen=True)
class Failure:
    """`part`: tables, figures or report; `name`: of the table or kind of figure."""

    part: str
    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.part}: {self.name}: {self.reason}"


class Attempts:
    """Makes things one after the other and keeps the failures of those that raise."""

    def __init__(self, part: str) -> None:
        self.part = part
        self.failures: list[Failure] = []

    def make(self, name: str, make: Callable[[], Made]) -> Made | Failure:
        """What `make` gives, or its failure. Any exception counts: whatever is wrong must not stop the others."""
        try:
            return make()
        except Exception as error:
            log.exception("%s: %s failed", self.part, name)
            failure = Failure(self.part, name, " ".join(str(error).split()) or type(error).__name__)
            self.failures.append(failure)
            return failure

    def write(self, paths: StudyPaths) -> list[Failure]:
        """Replaces what an earlier run kept of this part; returns the failures."""
        others = [failure for failure in read_failures(paths) if failure.part != self.part]
        if others or self.failures or (paths.results / FILE).exists():
            write_json(paths.results / FILE, [asdict(failure) for failure in [*others, *self.failures]])
        return self.failures


def read_failures(paths: StudyPaths) -> list[Failure]:
    """Those of the last time that tables, figures and report were made."""
    try:
        return [Failure(**one) for one in json.loads((paths.results / FILE).read_text(encoding="utf-8"))]
    except (FileNotFoundError, ValueError, TypeError):
        return []


def listed(failures: Sequence[Failure]) -> str:
    """One a line, for a message."""
    return "\n".join(f"  {failure}" for failure in failures)
