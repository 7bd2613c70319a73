"""What must hold of any raw file: it ends in a dataset, or in one line of error."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import data_prep
from data_prep import DataError
from mlcl.data import open_dataset
from tests.faults.published_files import PUBLISHED, Published
from tests.faults.raw_files import KINDS

LONGEST_SECONDS = 30
ALL = (*KINDS, *PUBLISHED)


def published(kind: str) -> Published:
    """The files of a published dataset; folders of the `datasets` library are made when asked for."""
    entry = PUBLISHED[kind]
    return entry if isinstance(entry, Published) else entry()


class Case:
    """A folder with the raw files of one kind, in which one file is damaged again and again."""

    def __init__(self, folder: Path, kind: str) -> None:
        case = (
            published(kind) if kind in PUBLISHED else Published(*KINDS[kind], KINDS[kind][2][KINDS[kind][3]])
        )
        self.source, self.settings, files, target, self.undamaged, self._pack = case
        self._accept_local = kind in PUBLISHED
        self.raw, self.out = folder / "raw", folder / "made" / "out"
        for name, content in {**files, target: self._pack(self.undamaged)}.items():
            (self.raw / name).parent.mkdir(parents=True, exist_ok=True)
            (self.raw / name).write_bytes(content)
        self.target = self.raw / target
        self._files = sorted(self.raw.rglob("*"))

    def attempt(self, damaged: bytes) -> str | None:
        """Prepare the dataset with `damaged` in the place of the file; the error it ends in, if any.

        Fails unless the outcome is a dataset that opens or one line of DataError that no reader left to chance,
        within `LONGEST_SECONDS`, with nothing written but the dataset.
        """
        self.target.write_bytes(self._pack(damaged))
        shutil.rmtree(self.out.parent, ignore_errors=True)
        error = None
        try:
            with _limited():
                data_prep.prepare(
                    data_prep.plan(self.source, self.settings, self.raw, self._accept_local),
                    self.raw,
                    self.out,
                )
            open_dataset(self.out)
        except DataError as problem:
            error = str(problem)
            assert "\n" not in error, error
            assert "fault of the reader" not in error, error
            assert not self.out.exists()
        assert sorted(self.raw.rglob("*")) == self._files
        if self.out.parent.exists():
            assert {path.name for path in self.out.parent.iterdir()} <= {"out", ".out.lock"}
        return error


@contextmanager
def _limited() -> Iterator[None]:
    def late(*_: object) -> None:
        raise AssertionError(f"not finished within {LONGEST_SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(LONGEST_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
