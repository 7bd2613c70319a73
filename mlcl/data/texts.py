"""Texts of a split: a sequence of str that reads from one file."""

import mmap
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import overload

import numpy as np


class Texts(Sequence[str]):
    """Texts in a UTF-8 file, read on access; text i is the bytes `offsets[i]` to `offsets[i + 1]`."""

    def __init__(self, path: Path, offsets: np.ndarray) -> None:
        self.path, self.offsets = path, offsets

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self._read(row) for row in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"text {index} of {len(self)}")
        return self._read(index % len(self))

    def __iter__(self) -> Iterator[str]:
        return (self._read(row) for row in range(len(self)))

    def __getstate__(self) -> dict[str, object]:
        # Without the memory map: a process that unpickles this object opens its own.
        return {"path": self.path, "offsets": self.offsets}

    def _read(self, row: int) -> str:
        return self._bytes[self.offsets[row] : self.offsets[row + 1]].decode("utf-8")

    @cached_property
    def _bytes(self) -> mmap.mmap | bytes:
        if self.path.stat().st_size == 0:
            return b""  # an empty file cannot be mapped
        with self.path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
