"""Zip and tar archives, and folders, read member by member: nothing is ever unpacked to disk.

So no path can escape and no link or device file can be made; members that are not regular files are refused,
and what is read into memory is bounded.
"""

from __future__ import annotations

import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Protocol

from data_prep.errors import DataError
from data_prep.readers.lines import decoded_lines

MAX_MEMBER = 1 << 28  # bytes of a member that is read whole
DAMAGED = (
    OSError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
    tarfile.TarError,
    NotImplementedError,
)


class Archive(Protocol):
    """An open archive (or folder): its regular files by name."""

    path: Path

    def names(self) -> list[str]:
        """The members' names, in the archive's order (a folder: sorted)."""
        ...

    def open(self, name: str) -> IO[bytes]:
        """A member as a stream. Raises DataError where there is none, or where it is no regular file."""
        ...


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Open a .zip, .tar, .tar.gz, ... or a folder. Raises DataError for one that is damaged."""
    try:
        if path.is_dir():
            yield _Folder(path)
        elif zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as file:
                yield _Zip(path, file)
        else:
            with tarfile.open(path) as tar:
                yield _Tar(path, tar)
    except DAMAGED as error:
        raise DataError(f"{path}: cannot be read as an archive ({error}); fetch it again") from None


def read_member(archive: Archive, name: str, limit: int = MAX_MEMBER) -> bytes:
    """A member's content. Raises DataError where it is missing, damaged, or larger than `limit`."""
    try:
        with archive.open(name) as file:
            content = file.read(limit + 1)
    except (*DAMAGED, ValueError, OverflowError, RuntimeError) as error:
        raise DataError(f"{archive.path}: member {name} is damaged ({error}); fetch it again") from None
    if len(content) > limit:
        raise DataError(
            f"{archive.path}: member {name} is larger than {limit} bytes; that is no file of this dataset"
        )
    return content


def members(path: Path, suffix: str = "") -> Iterator[tuple[str, bytes]]:
    """Every regular file whose name ends in `suffix`, in the archive's order, in one pass.

    This is the way to read a compressed tar, where jumping costs as much as reading all of it.
    """
    with open_archive(path) as archive:
        names = archive.walk() if isinstance(archive, _Tar) else iter(archive.names())
        for name in names:
            if name.endswith(suffix):
                yield name, read_member(archive, name)


class _Zip:
    def __init__(self, path: Path, file: zipfile.ZipFile) -> None:
        self.path, self._file = path, file
        self._members = {info.filename: info for info in file.infolist() if not info.is_dir()}

    def names(self) -> list[str]:
        return list(self._members)

    def open(self, name: str) -> IO[bytes]:
        info = self._members.get(name)
        if info is None:
            raise _no_member(self.path, name)
        if (info.external_attr >> 16) & 0o170000 not in (0, 0o100000):
            raise DataError(f"{self.path}: member {name} is not a regular file")
        if info.flag_bits & 1:
            raise DataError(f"{self.path}: member {name} is encrypted")
        return self._file.open(info)


class _Tar:
    def __init__(self, path: Path, file: tarfile.TarFile) -> None:
        self.path, self._file = path, file
        self._known: dict[str, tarfile.TarInfo] = {}
        self._complete = False

    def walk(self) -> Iterator[str]:
        """Names as the archive is read; each member may be opened when its name comes."""
        for info in self._file:
            if not info.isdir():
                self._known[info.name] = info
                yield info.name
        self._complete = True

    def names(self) -> list[str]:
        return list(self._index())

    def open(self, name: str) -> IO[bytes]:
        info = self._known.get(name) or self._index().get(name)
        if info is None:
            raise _no_member(self.path, name)
        file = self._file.extractfile(info) if info.isreg() else None
        if file is None:
            raise DataError(f"{self.path}: member {name} is a link or device, not a regular file")
        return file

    def _index(self) -> dict[str, tarfile.TarInfo]:
        if not self._complete:
            self._known = {info.name: info for info in self._file.getmembers() if not info.isdir()}
            self._complete = True
        return self._known


class _Folder:
    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> list[str]:
        return sorted(
            file.relative_to(self.path).as_posix() for file in self.path.rglob("*") if file.is_file()
        )

    def open(self, name: str) -> IO[bytes]:
        file = self.path / name
        if not file.resolve().is_relative_to(self.path.resolve()):
            raise DataError(f"{self.path}: {name} leads out of the folder")
        if not file.is_file():
            raise _no_member(self.path, name)
        return file.open("rb")


def _no_member(path: Path, name: str) -> DataError:
    return DataError(f"{path}: has no member {name}")


def text_lines(archive: Archive, name: str) -> list[str]:
    """The lines of a small UTF-8 member, without line ends."""
    content = io.BytesIO(read_member(archive, name))
    return [line for _, line in decoded_lines(content, f"{archive.path}:{name}")]
