"""Finds the image that a table or an annotation names: by path, by the end of a path, by name, or by stem."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from urllib.parse import unquote

from data_prep.errors import DataError
from data_prep.readers.images import SUFFIXES

MOST_CANDIDATES = 4  # that a message names


def _folded(name: str) -> str:
    """For names that differ by case only, or by the form of accents, which some file systems change."""
    return unicodedata.normalize("NFC", name).lower()


class ImageNames:
    """The images of a folder or archive by name.

    Args:
        names: of all members, with `/`; those that are no images by their suffix are found by their full path only.
        where: the folder or archive, for messages.
    """

    def __init__(self, names: Iterable[str], where: str) -> None:
        self.where = where
        self._members = set(names)
        self._by_name: dict[str, list[str]] = {}
        self._by_stem: dict[str, list[str]] = {}
        self._folders: set[str] = set()
        self._requests: dict[str, str] = {}
        for member in sorted(self._members):
            path = PurePosixPath(member)
            if path.suffix.lower() in SUFFIXES and not member.startswith("__MACOSX/"):
                self._by_name.setdefault(_folded(path.name), []).append(member)
                self._by_stem.setdefault(_folded(path.stem), []).append(member)
                self._folders.update(map(_folded, path.parent.parts))

    def find(self, name: str) -> str:
        """The member that is meant.

        The name is tried as a path in the archive, as the end of one, by ever shorter ends of its own (as annotation
        tools write paths of other machines), and by its stem, each with backslashes and percent signs decoded.

        Raises:
            DataError: there is none; there are several; another name already stands for the same image.
        """
        for variant in dict.fromkeys((name, name.replace("\\", "/"), unquote(name.replace("\\", "/")))):
            path = PurePosixPath(variant.strip())
            if ".." in path.parts:
                raise DataError(f"{self.where}: {name} leads out of the folder")
            if str(path) in self._members:
                return self._unique([str(path)], name)
            for candidates in self._candidates(path):
                if candidates:
                    return self._unique(candidates, name)
        raise DataError(f"{self.where}: has no image {name}")

    def _candidates(self, path: PurePosixPath) -> Iterator[list[str]]:
        parts = [part for part in path.parts if part not in ("/", "")]
        if not parts:
            return
        same_name = self._by_name.get(_folded(parts[-1]), [])
        for start in range(len(parts)):
            end = "/".join(parts[start:])
            members = [member for member in same_name if f"/{member}".endswith(f"/{end}")]
            yield members or [
                member for member in same_name if _folded(f"/{member}").endswith(_folded(f"/{end}"))
            ]
            if _folded(parts[start]) in self._folders and start < len(parts) - 1:
                return  # the folder is there, and the image is not in it
        stem = path.stem if path.suffix.lower() in SUFFIXES else path.name
        yield self._by_stem.get(_folded(stem), [])

    def _unique(self, candidates: list[str], name: str) -> str:
        if len(candidates) > 1:
            listed = ", ".join(candidates[:MOST_CANDIDATES])
            more = ", ..." if len(candidates) > MOST_CANDIDATES else ""
            raise DataError(f"{self.where}: {name} may be {listed}{more}; name the image by its path")
        member = candidates[0]
        other = self._requests.setdefault(member, name)
        if other != name:
            raise DataError(
                f"{self.where}: {other} and {name} are both taken for {member}; name images by their paths"
            )
        return member
