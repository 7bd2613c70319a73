"""One live run in one folder, and no lock that outlives its run.

Snakemake leaves its lock files behind when it is killed, and the next run refuses to start. The operating system
frees a file lock (flock) together with its process, so it tells who is alive: whoever gets it knows that the
previous owner is gone, and may remove what that owner left. A lock made on another host is left alone, since
flock may not reach across a network file system.
"""

from __future__ import annotations

import base64
import json
import os
import socket
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mlcl.errors import MlclError


def forget_unfinished(marks: Path, outputs: Path) -> None:
    """Removes Snakemake's marks (in the folder `marks`) that it was at work on files below the folder `outputs`.

    Snakemake makes a file that is so marked again, and then leaves out every job that has it as an `ancient` input:
    the run would end well with nothing else done. For outputs that are there only when they are whole.
    """
    for mark in marks.rglob("*"):
        if mark.is_file() and outputs in _marked(mark.relative_to(marks)).parents:
            mark.unlink(missing_ok=True)


def _marked(mark: Path) -> Path:
    """The file that a mark stands for: its path in base64, long ones in pieces that start with @."""
    try:
        return Path(base64.urlsafe_b64decode("".join(part.removeprefix("@") for part in mark.parts)).decode())
    except ValueError:
        return Path()


class RunLock:
    """The right to work in a folder; held until the process ends.

    study: what the process works at, by name.
    """

    def __init__(self, bookkeeping: Path, study: str | None = None) -> None:
        self._study = study
        bookkeeping.mkdir(parents=True, exist_ok=True)
        self._owner_file = bookkeeping / "owner.json"
        self._flock = FileLock(bookkeeping / "owner.lock", thread_local=False)

    def try_take(self, stale_locks: Path) -> bool:
        """Takes the lock if it is free and removes Snakemake's lock files in `stale_locks`, if the owner that
        left them is gone. Returns whether the lock is held now.

        An owner on another host stays the owner until Snakemake has found its lock files free and starts the run
        (`take`): otherwise the second try on this host would take the other host's live locks for its own.
        """
        if not self._acquire(wait_s=0):
            return False
        if self._is_owner_here():
            for left_over in stale_locks.glob("*.lock"):
                left_over.unlink(missing_ok=True)
            self._write_owner()
        return True

    def take(self, run_starts: bool = False) -> None:
        """Makes sure that the lock is held. Raises MlclError if another live process has it.

        run_starts: Snakemake's lock files in this folder are this process's from now on.
        """
        if not self._flock.is_locked and not self._acquire(wait_s=5):
            raise MlclError(self.refusal())
        if run_starts or self._is_owner_here():
            self._write_owner()

    def refusal(self) -> str:
        """Why a second run cannot start, in words."""
        owner = self._owner() or {}
        return (
            f"another run is at work in this folder (study {owner.get('study', '?')}, process "
            f"{owner.get('pid', '?')} on {owner.get('host', '?')}); wait for it, or end it. Snakemake keeps one "
            "history and one set of locks a folder, so one run of it at a time works there. Another study's cells "
            "can be made meanwhile by 'mlcl work', or in a clone of its own"
        )

    def take_beside_others(self) -> None:
        """As `take`, but a run of Snakemake that works at another study is no hindrance: nothing that it plans or
        writes is of this one."""
        owner = self._owner() or {}
        if self._acquire(wait_s=0) or owner.get("study") in (None, self._study):
            self.take()

    def release(self) -> None:
        """Lets others have it before the process ends."""
        self._flock.release()

    def _acquire(self, wait_s: float) -> bool:
        try:
            self._flock.acquire(timeout=wait_s)
        except Timeout:
            return False
        return True

    def _is_owner_here(self) -> bool:
        owner = self._owner()
        return owner is None or owner.get("host") == socket.gethostname()

    def _write_owner(self) -> None:
        owner = {"pid": os.getpid(), "host": socket.gethostname(), "study": self._study}
        self._owner_file.write_text(json.dumps(owner))

    def _owner(self) -> dict[str, Any] | None:
        try:
            owner = json.loads(self._owner_file.read_text())
        except (FileNotFoundError, ValueError):
            return None
        return owner if isinstance(owner, dict) else None
