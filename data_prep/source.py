"""What a source module declares, and the check of a user's settings against the declaration.

A module in `data_prep.sources` holds three things: `ABOUT` (facts about the dataset), a `Settings` class (what may
be configured), and `SOURCE`, which ties them to the raw files and to the function that prepares them. Nothing here
makes content, so neither this module nor `ABOUT` is part of a dataset's fingerprint.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from data_prep.errors import DataError, closest

if TYPE_CHECKING:
    from data_prep.writer import DatasetWriter

Modality = Literal["image", "text", "vector"]


class Settings(BaseModel):
    """Settings of a source: typed, complete, unchangeable. Each field has a default and a description."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


@dataclass(frozen=True)
class About:
    """What a reader has to know of a dataset before using it."""

    title: str
    citation: str
    homepage: str
    licence: str
    """Licence and terms of use, in a sentence or two."""
    by_hand: str = ""
    """How to obtain the files where they may not be downloaded: what to request, and where."""
    published: Mapping[str, Any] = field(default_factory=dict)
    """Published counts: `labels`, `cardinality`, `examples` by split, `label_counts` by split."""
    published_from: str = ""
    """Where the published counts stand."""


@dataclass(frozen=True)
class RawFile:
    """A file as its publisher distributes it.

    Attributes:
        path: where it lies, relative to the dataset's folder in the data root; it may be a folder of files.
            A gzipped copy (`path.gz`) is taken as well, and judged by its content.
        urls: where it may be downloaded, best first; empty where downloading is not allowed or not possible.
        size, sha256, md5: as published; None where the publisher (or a library that pins it) states none.
    """

    path: str
    urls: tuple[str, ...] = ()
    size: int | None = None
    sha256: str | None = None
    md5: str | None = None
    optional: bool = False

    @property
    def pinned(self) -> bool:
        """Whether a checksum is published, so that a local file can be judged."""
        return self.sha256 is not None or self.md5 is not None


RawPaths = Mapping[str, Path]
"""The raw files of a dataset as found: `RawFile.path` -> the file on this machine."""


@dataclass(frozen=True)
class Source:
    """One dataset, or one kind of the user's own data.

    Attributes:
        modality: one of the three, or a function of the settings where the settings choose it.
        prepare: reads the raw files and adds every example to the writer.
        files: the raw files that the settings ask for.
        folder: the dataset's folder in the data root where it is not the source's name (the user's own data
            lies anywhere: an empty folder).
        packages: installed packages whose content the dataset is made of (versions enter the fingerprint).
        members: a family of datasets (`mulan_<set>`): the names after the underscore; `Settings` then has a
            field `set`.
    """

    about: About | Callable[[Any], About]
    modality: Modality | Callable[[Any], Modality]
    prepare: Callable[[Any, RawPaths, DatasetWriter], None]
    settings: type[Settings] = Settings
    files: Callable[[Any], tuple[RawFile, ...]] = lambda settings: ()
    folder: Callable[[Any], str] | None = None
    packages: tuple[str, ...] = ()
    members: tuple[str, ...] = ()


def validate(
    model: type[Settings], given: Mapping[str, Any], preset: Mapping[str, Any], name: str
) -> Settings:
    """Settings with all defaults filled in.

    Args:
        given: what the user set.
        preset: values that the dataset's name stands for (`mulan_yeast`: set=yeast); they cannot be set.
        name: the dataset, for messages.

    Raises:
        DataError: an unknown key (the message lists the valid ones), a wrong type, or a value out of range.
    """
    allowed = [key for key in model.model_fields if key not in preset]
    for key in given:
        if key not in allowed:
            raise DataError(f"dataset {name}: unknown setting {key!r}: {closest(str(key), allowed)}")
    try:
        return model(**given, **preset)
    except ValidationError as error:
        first = error.errors()[0]
        message = str(first["msg"]).removeprefix("Value error, ")
        if not first["loc"]:
            raise DataError(f"dataset {name}: {message}") from None
        where = ".".join(str(part) for part in first["loc"])
        got = "" if first["type"] == "missing" else f", got {first['input']!r}{_quoting_hint(first)}"
        raise DataError(f"dataset {name}: setting {where!r}: {message}{got}") from None


def _quoting_hint(error: Mapping[str, Any]) -> str:
    """YAML reads some words as other things than texts, and some numbers as texts."""
    value = error["input"]
    if error["type"] == "string_type" and isinstance(value, bool):
        words = "yes, on and true" if value else "no, off and false"
        return f"; YAML reads {words} as {value}: put the word in quotation marks"
    if error["type"] == "string_type" and isinstance(value, int | float):
        return f"; put it in quotation marks: '{value}'"
    if error["type"] in ("float_type", "int_type") and isinstance(value, str):
        return "; write a number without quotation marks (and 1.0e-1, not 1e-1: YAML reads that as a text)"
    return ""
