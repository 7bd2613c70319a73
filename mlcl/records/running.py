"""Which process makes a cell: a mark in the folder of its unfinished work, renewed while that process lives.

Two processes of one machine are kept apart by a file lock (flock), which ends with its process. On a network file
system such a lock may hold within one machine only. So the mark is created exclusively (O_EXCL), which network file
systems do atomically across machines, and its time is renewed every HEARTBEAT seconds. The mark of another machine
that was not renewed for STALE seconds was left behind by one that died; the cell is free.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from mlcl.errors import CellTakenError

RUNNING = "running.json"
HEARTBEAT = 30.0
"""Seconds between two renewals of a mark."""
STALE = 600.0
"""Seconds without a renewal after which a mark counts for nothing: far above what clocks of machines differ by and what
network file systems take to show a file's new time."""
LOOK_AGAIN = 5.0
"""Seconds between two looks at the mark of another machine."""
JOB_VARIABLE = "SLURM_JOB_ID"


def running_since(unfinished: Path) -> float | None:
    """Since when (seconds since 1970) a process makes the cell of this folder; None if none does."""
    mark = unfinished / RUNNING
    try:
        owner, age = json.loads(mark.read_text(encoding="utf-8")), time.time() - mark.stat().st_mtime
        if owner["host"] == socket.gethostname():
            os.kill(owner["pid"], 0)
        return float(owner["since"]) if age < STALE else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def job_of(unfinished: Path) -> str | None:
    """The cluster's number of the job that makes the cell of this folder; None if no job does."""
    if running_since(unfinished) is None:
        return None
    with suppress(OSError, ValueError, KeyError, TypeError):
        job = json.loads((unfinished / RUNNING).read_text(encoding="utf-8"))["job"]
        return str(job) if job else None
    return None


class Running:
    """The mark of this process, there as long as the block lasts.

    To be entered with the cell's file lock held: a mark of this machine is then left over and is replaced. As long
    as a process of another machine renews its own, entering waits, or raises CellTakenError with `wait=False`.
    """

    def __init__(self, unfinished: Path, wait: bool = True) -> None:
        self._mark, self._wait = unfinished / RUNNING, wait
        self._ended = threading.Event()

    def __enter__(self) -> None:
        self._mark.parent.mkdir(parents=True, exist_ok=True)
        while not self._create():
            if self._is_left_over():
                self._remove_left_over()
            elif not self._wait:
                raise CellTakenError(f"{self._mark}: a process on {self._owner().get('host')} makes the cell")
            else:
                time.sleep(LOOK_AGAIN)
        self._thread = threading.Thread(target=self._renew, name="heartbeat", daemon=True)
        self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        with suppress(OSError):  # gone with its folder, or another machine's by now
            if self._mark.stat().st_ino == os.fstat(self._file).st_ino:
                self._mark.unlink()
        os.close(self._file)

    def _create(self) -> bool:
        try:
            self._file = os.open(self._mark, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        except FileExistsError:
            return False
        owner = {
            "pid": os.getpid(), "host": socket.gethostname(), "since": time.time(),
            "job": os.environ.get(JOB_VARIABLE),
        }  # fmt: skip
        os.write(self._file, json.dumps(owner).encode())
        return True

    def _renew(self) -> None:
        while not self._ended.wait(HEARTBEAT):
            with suppress(OSError):
                os.utime(self._file)

    def _is_left_over(self) -> bool:
        owner, age = self._owner(), self._age()
        if owner.get("host") == socket.gethostname():  # that process would hold the file lock
            return True
        job = os.environ.get(JOB_VARIABLE)
        return age > STALE or (job is not None and owner.get("job") == job)  # this job, which was requeued

    def _owner(self) -> Mapping[str, Any]:
        try:
            owner = json.loads(self._mark.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # gone, or being written
            return {}
        return owner if isinstance(owner, dict) else {}

    def _age(self) -> float:
        """Seconds since the mark was renewed, by the clock that its file system has; 0 if it is gone."""
        clock = self._mark.with_name(f".clock-{uuid.uuid4().hex}")
        try:
            clock.touch()
            return clock.stat().st_mtime - self._mark.stat().st_mtime
        except OSError:
            return 0.0
        finally:
            clock.unlink(missing_ok=True)

    def _remove_left_over(self) -> None:
        """Out of the way by a name of one's own: of two processes that find it left over, one gets it."""
        aside = self._mark.with_name(f".{uuid.uuid4().hex}")
        with suppress(OSError):
            self._mark.rename(aside)
            aside.unlink()
