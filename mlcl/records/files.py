"""Files that are either whole or not there, and the JSON cache of slow results."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlcl.digests import is_sealed, sealed


@contextmanager
def atomic_file(path: Path, durable: bool = True) -> Iterator[Path]:
    """Gives a temporary path beside `path`; renamed to `path` if the block ends well, removed if not.

    With `durable`, content and name are on the disk before this returns, also if the machine then loses power.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        if durable:
            sync(temporary)
        temporary.replace(path)
        if durable:
            sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """As `atomic_file`, for a folder: gives an empty one, which takes the place of what is at `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, old = (path.with_name(f".{path.name}.{os.getpid()}{ending}") for ending in ("", ".old"))
    for left in (temporary, old):  # by a killed process of the same number: in containers these recur
        shutil.rmtree(left, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        sync_tree(temporary)
        if path.exists():
            path.rename(old)
        try:
            temporary.rename(path)
        except OSError:
            if old.exists():
                old.rename(path)
            raise
        sync(path.parent)
    finally:
        for left in (temporary, old):
            shutil.rmtree(left, ignore_errors=True)


def sync(path: Path) -> None:
    """Writes a file's content, or a folder's list of names, through to the disk (fsync)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """`sync` for a folder and all that is in it."""
    for path in (*folder.rglob("*"), folder):
        if path.is_file() or path.is_dir():
            sync(path)


def write_text(path: Path, text: str, durable: bool = True) -> None:
    with atomic_file(path, durable) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any, durable: bool = True) -> None:
    """Readable JSON; a NaN or infinity raises ValueError, since no result may hold one."""
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n", durable)


def write_json_if_changed(path: Path, content: Any) -> None:
    """Leaves the file and its time alone if it holds the same content."""
    try:
        if json.loads(path.read_text(encoding="utf-8")) == json.loads(json.dumps(content)):
            return
    except (FileNotFoundError, ValueError):
        pass
    write_json(path, content, durable=False)


class JsonCache:
    """A JSON cache of slow results, keyed by a digest of their inputs.

    `write` keeps the entries that were asked for since the file was opened and drops the others. A file that is not
    what was written counts as none: its entries are computed again.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError, RecursionError):
            content = None
        self._stored: dict[str, Any] = content["entries"] if is_sealed(content) else {}
        self._used: dict[str, Any] = {}

    def get(self, digest: str, compute: Callable[[], Any]) -> Any:
        """The entry of this digest; computed if there is none."""
        if digest not in self._used:
            self._used[digest] = self._stored[digest] if digest in self._stored else compute()
        return self._used[digest]

    def write(self) -> None:
        if self._used != self._stored:
            write_json(self._file, sealed({"entries": self._used}))
