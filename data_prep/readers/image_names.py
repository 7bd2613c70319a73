"""Finds the image that a table or an annotation names: by path, by the end of a path, by name, or by stem."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from data_prep.errors import DataError
from data_prep.readers.images import SUFFIXES

MOST_CANDIDATES = 4  # that a message names


def _folded(name: str) -> str:
    """For names that differ by case only, or by the form of accents, which some file systems change."""
    return unicodedata.normalize("NFC", name).lower()


def _path_of_address(name: str) -> str:
    if "://" not in name:
        return name
    try:
        return urlsplit(name).path
    except ValueError:  # brackets that are no IPv6 address
        return name


def _without_suffix(member: str) -> str:
    return f"/{PurePosixPath(member).with_suffix('')}"


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
        tools write paths of other machines), each also without its suffix. Backslashes and percent signs are decoded,
        and an address (https://...) counts without its query.

        Raises:
            DataError: there is none; there are several; another name already stands for the same image.
        """
        path_of = _path_of_address(name)
        for variant in dict.fromkeys(
            (path_of, path_of.replace("\\", "/"), unquote(path_of.replace("\\", "/")))
        ):
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
        stem = path.stem if path.suffix.lower() in SUFFIXES else path.name
        same_name = self._by_name.get(_folded(parts[-1]), [])
        same_stem = self._by_stem.get(_folded(stem), [])
        for start in range(len(parts)):
            end = "/".join(parts[start:])
            members = [member for member in same_name if f"/{member}".endswith(f"/{end}")]
            yield members or [
                member for member in same_name if _folded(f"/{member}").endswith(_folded(f"/{end}"))
            ]
            if start < len(parts) - 1:
                end = _folded("/".join(["", *parts[start:-1], stem]))
                yield [member for member in same_stem if _folded(_without_suffix(member)).endswith(end)]
                if _folded(parts[start]) in self._folders:
                    return  # the folder is there, and the image is not in it
        yield same_stem

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
