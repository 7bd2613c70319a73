"""JSON as users bring it: keys that occur twice are an error. Large files are read item by item.

COCO's annotations, of 450 MB, would otherwise need several GB.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import IO, Any

from data_prep.errors import DataError
from data_prep.readers.lines import without_bom

BLOCK = 1 << 20
MAX_VALUE = 1 << 24
"""Characters of one item: the annotation of one image, say."""
SPACE = " \t\r\n"
SPACES = re.compile("[ \t\r\n]*")


def array_items(file: IO[bytes], where: str) -> Iterator[tuple[str, Any]]:
    """(key, item) for every item of every array in the file's top-level object; other values are (key, value).

    An empty array gives nothing for its key but (key, []). Raises DataError where the file is not one JSON object, is
    not UTF-8, or an object has a key twice.
    """
    try:
        yield from _Stream(file, where).walk()
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: not UTF-8 text ({error.reason}); convert the file to UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not valid JSON ({error})") from None


class RepeatedKeyError(ValueError):
    """An object has a key twice."""


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; RepeatedKeyError for a key that it has twice: Python takes the last one in silence."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise RepeatedKeyError(f"the key {next(key for key in found if keys.count(key) > 1)!r} occurs twice")
    return found


class _Stream:
    def __init__(self, file: IO[bytes], where: str) -> None:
        self._file, self._where = file, where
        self._decoder = json.JSONDecoder(object_pairs_hook=unique_keys)
        self._started = False
        self._bytes, self._text, self._at, self._ended = b"", "", 0, False

    def walk(self) -> Iterator[tuple[str, Any]]:
        self._expect("{")
        if self._next() == "}":
            self._take()
            self._expect_end()
            return
        seen: set[str] = set()
        while True:
            key = self._value()
            self._expect(":")
            if not isinstance(key, str):
                raise ValueError(f"{key!r} is no key")
            if key in seen:
                raise RepeatedKeyError(f"the key {key!r} occurs twice")
            seen.add(key)
            if self._next() == "[":
                empty = True
                for item in self._items():
                    empty = False
                    yield key, item
                if empty:
                    yield key, []
            else:
                yield key, self._value()
            if self._separator("}"):
                self._expect_end()
                return

    def _items(self) -> Iterator[Any]:
        self._expect("[")
        if self._next() == "]":
            self._take()
            return
        while True:
            yield self._value()
            if self._separator("]"):
                return

    def _value(self) -> Any:
        """The JSON value that starts here; reads on where it is cut off by the end of the block."""
        self._next()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except ValueError as error:
                # Reading on helps where a value is cut off.
                if self._ended or isinstance(error, RepeatedKeyError):
                    raise
            else:
                # A number at the very end of the block may go on in the next one.
                if end < len(self._text) or self._ended:
                    self._at = end
                    return value
            if len(self._text) - self._at > MAX_VALUE:
                raise ValueError(f"a value of more than {MAX_VALUE} characters")
            self._read()

    def _next(self) -> str:
        """The next character that is not space, without taking it."""
        while True:
            if match := SPACES.match(self._text, self._at):
                self._at = match.end()
            if self._at < len(self._text):
                return self._text[self._at]
            if self._ended:
                raise ValueError("the file ends too early")
            self._read()

    def _separator(self, closing: str) -> bool:
        """Whether what follows closes the array or object; otherwise it must be a comma."""
        character = self._take()
        if character not in (",", closing):
            raise ValueError(f"expected ',' or {closing!r}, found {character!r}")
        return character == closing

    def _expect_end(self) -> None:
        while not self._ended or self._text[self._at :].strip(SPACE):
            if rest := self._text[self._at :].strip(SPACE):
                raise ValueError(f"after the object there is more: {rest[:20]!r}")
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
        if not self._started:
            block, self._started = without_bom(block, self._where), True
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
