"""Hashes of files, remembered by path, size and time so that planning stays fast."""

import gzip
import hashlib
import json
import os
import zlib
from contextlib import suppress
from pathlib import Path

from data_prep.errors import DataError
from mlcl.cache import cache_folder

BLOCK = 1 << 20
MEMORY_FILE = "checksums.json"

Digest = tuple[str, int]
"""A hash (hex) and the length of what was hashed."""


def is_gzip(path: Path) -> bool:
    """Whether the file's first bytes are those of gzip, whatever its name."""
    try:
        with path.open("rb") as file:
            return file.read(2) == b"\x1f\x8b"
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def content_digest(path: Path, algorithm: str = "sha256", unpack: bool = False) -> Digest:
    """The hash of a file's content (`unpack`: of what the gzip holds), or of a folder's names and contents.

    Answers are remembered under path, size, and times of modification and change. Raises DataError for a file that
    cannot be read or a gzip that is damaged.
    """
    memory = _Memory()
    try:
        if path.is_dir():
            return _folder_digest(path, memory)
        return _file_digest(path, algorithm, unpack, memory)
    finally:
        memory.save()


def _folder_digest(folder: Path, memory: "_Memory") -> Digest:
    digest, total = hashlib.sha256(), 0
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        inner, length = _file_digest(path, "sha256", False, memory)
        digest.update(f"{path.relative_to(folder).as_posix()}\n{inner}\n".encode())
        total += length
    return digest.hexdigest(), total


def _file_digest(path: Path, algorithm: str, unpack: bool, memory: "_Memory") -> Digest:
    try:
        stat = path.stat()
        times = (
            f"{stat.st_mtime_ns}|{stat.st_ctime_ns}"  # copying tools set the first, nothing sets the second
        )
        key = f"{algorithm}{'+gzip' if unpack else ''}|{stat.st_size}|{times}|{path.resolve()}"
        if key not in memory.known:
            memory.add(key, _read_digest(path, algorithm, unpack))
        return memory.known[key]
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}); fetch it again") from None


def _read_digest(path: Path, algorithm: str, unpack: bool) -> Digest:
    digest, length = hashlib.new(algorithm, usedforsecurity=False), 0
    with gzip.open(path) if unpack else path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
            length += len(block)
    return digest.hexdigest(), length


class _Memory:
    """The remembered hashes. Two processes at once may lose an entry: one more hash, never a wrong answer."""

    def __init__(self) -> None:
        self.known: dict[str, Digest] = {}
        self.changed = False
        self._file = None if (folder := cache_folder()) is None else folder / MEMORY_FILE
        with suppress(OSError, ValueError, TypeError, AttributeError):
            if self._file is not None:
                stored = json.loads(self._file.read_text(encoding="utf-8"))
                self.known = {key: (str(digest), int(length)) for key, (digest, length) in stored.items()}

    def add(self, key: str, digest: Digest) -> None:
        self.known[key] = digest
        self.changed = True

    def save(self) -> None:
        if not self.changed or self._file is None:
            return
        with suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            aside = self._file.with_name(f"{MEMORY_FILE}.{os.getpid()}")
            aside.write_text(json.dumps(self.known), encoding="utf-8")
            aside.replace(self._file)
