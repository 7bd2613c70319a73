"""Digests of what is stored: the seal of a JSON file, and whether a file is still the one that was written.

A large file is hashed once on each machine: that it was found whole is noted beside its path, size and times, and only
a file that changed since is hashed again. `hashing_all` leaves the notes aside.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any

from mlcl.cache import cache_folder

SEAL = "seal"
"""The key under which a sealed JSON file holds the digest of all its other keys."""
SMALL = 1 << 16
"""Files of up to so many bytes are hashed each time: that is as quick as looking for a note."""
NOTES_BYTES = 4 << 20
"""When the notes have grown to this size, the older half is dropped."""
SETTLED_NS = 1_000_000_000
"""A file that changed less than this ago is not noted: another change might leave it with the same times."""

_hashing_all: ContextVar[bool] = ContextVar("hashing_all", default=False)


def canonical_json(content: Any) -> str:
    """One text for equal contents, whatever the order of the keys."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content with a seal: a digest of all its keys, as they will be read again."""
    return {**content, SEAL: _seal_of(json.loads(json.dumps(content)))}


def is_sealed(content: Any) -> bool:
    """Is this, read from a JSON file, what `sealed` gave, unchanged?"""
    try:
        return isinstance(content, dict) and content.get(SEAL) == _seal_of(content)
    except (ValueError, RecursionError):  # a NaN, or nested beyond measure
        return False


def _seal_of(content: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in content.items() if key != SEAL}
    return hashlib.sha256(canonical_json(rest).encode()).hexdigest()


def sha256_of(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def digests_of(folder: Path, names: Iterable[str] | None = None) -> dict[str, str]:
    """Path below the folder -> SHA-256, of these files; by default of all files in it and below."""
    if names is None:
        names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {name: sha256_of(folder / name) for name in names}


def first_defect(folder: Path, digests: Mapping[str, str]) -> str | None:
    """Which of these files is not what was written, in words that begin with its path; None if all are."""
    for name, digest in digests.items():
        file = folder / name
        try:
            if not has_digest(file, digest):
                return f"{file}: is not what was written (its SHA-256 is another one)"
        except FileNotFoundError:
            return f"{file}: is missing"
        except OSError as error:
            return f"{file}: cannot be read ({error.strerror or error})"
    return None


def has_digest(file: Path, digest: str) -> bool:
    """Has the file this SHA-256? Raises OSError where it cannot be read."""
    state = file.stat()
    if state.st_size <= SMALL or _hashing_all.get():
        return sha256_of(file) == digest
    seen = (str(file.resolve()), state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino, digest)
    note = hashlib.sha256(repr(seen).encode()).hexdigest()[:32]
    if note in _notes(_notes_file()):
        return True
    if sha256_of(file) != digest:
        return False
    if time.time_ns() - state.st_ctime_ns > SETTLED_NS:
        _take_note(note)
    return True


@contextmanager
def hashing_all() -> Iterator[None]:
    """In this block each file is hashed, whether or not it was found whole before."""
    token = _hashing_all.set(True)
    try:
        yield
    finally:
        _hashing_all.reset(token)


def _notes_file() -> Path | None:
    """Per user and machine; None where there is no home. A damaged file does no harm: what it lacks is hashed."""
    folder = cache_folder()
    return None if folder is None else folder / "whole_files"


@cache
def _notes(file: Path | None) -> set[str]:
    with contextlib.suppress(OSError):
        if file is None:
            return set()
        lines = file.read_text(encoding="ascii", errors="replace").split()
        if file.stat().st_size > NOTES_BYTES:
            kept = "".join(f"{line}\n" for line in lines[len(lines) // 2 :])
            aside = file.with_name(f".{file.name}.{os.getpid()}")
            aside.write_text(kept, encoding="utf-8")
            aside.replace(file)
        return set(lines)
    return set()


def _take_note(note: str) -> None:
    file = _notes_file()
    _notes(file).add(note)
    if file is None:
        return
    with contextlib.suppress(OSError):  # a full disk, say: the file is hashed again
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("ab") as notes:  # a short line appended at once: processes do not mix theirs
            notes.write(f"{note}\n".encode())
