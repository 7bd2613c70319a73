"""The items of a large JSON file's arrays, one at a time: COCO's annotations need 450 MB otherwise several GB."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import IO, Any

from data_prep.errors import DataError

BLOCK = 1 << 20
SPACE = " \t\r\n"


def array_items(file: IO[bytes], where: str) -> Iterator[tuple[str, Any]]:
    """(key, item) for every item of every array in the file's top-level object; other values are (key, value).

    Raises DataError where the file is not a JSON object.
    """
    try:
        yield from _Stream(file).walk()
    except (ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{where}: not valid JSON ({error})") from None


class _Stream:
    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._decoder = file, json.JSONDecoder()
        self._bytes, self._text, self._at, self._ended = b"", "", 0, False

    def walk(self) -> Iterator[tuple[str, Any]]:
        self._expect("{")
        if self._next() == "}":
            return
        while True:
            key = self._value()
            self._expect(":")
            if self._next() == "[":
                yield from ((key, item) for item in self._items())
            else:
                yield key, self._value()
            if self._take() == "}":
                return

    def _items(self) -> Iterator[Any]:
        self._expect("[")
        if self._next() == "]":
            self._take()
            return
        while True:
            yield self._value()
            if self._take() == "]":
                return

    def _value(self) -> Any:
        """The JSON value that starts here; reads on where it is cut off by the end of the block."""
        self._next()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except ValueError:
                if self._ended:
                    raise
            else:
                # A number at the very end of the block may go on in the next one.
                if end < len(self._text) or self._ended:
                    self._at = end
                    return value
            self._read()

    def _next(self) -> str:
        """The next character that is not space, without taking it."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in SPACE:
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if self._ended:
                raise ValueError("the file ends too early")
            self._read()

    def _take(self) -> str:
        character = self._next()
        if character not in ",]}":
            raise ValueError(f"unexpected {character!r}")
        self._at += 1
        return character

    def _expect(self, character: str) -> None:
        if self._next() != character:
            raise ValueError(f"expected {character!r}, found {self._next()!r}")
        self._at += 1

    def _read(self) -> None:
        block = self._file.read(BLOCK)
        self._ended = not block
        self._bytes += block
        # A character of several bytes may be cut by the block's end: keep its first bytes for the next round.
        complete = self._bytes if self._ended else self._bytes[: _whole_characters(self._bytes)]
        self._bytes = self._bytes[len(complete) :]
        self._text = self._text[self._at :] + complete.decode("utf-8")
        self._at = 0


def _whole_characters(data: bytes) -> int:
    end = len(data)
    for back in range(1, min(4, end) + 1):
        byte = data[end - back]
        if byte < 0x80:
            return end
        if byte >= 0xC0:
            return end - back
    return end
