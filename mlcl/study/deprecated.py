"""Keys of a study that were renamed: the old one works until the version named here, with a warning.

An entry is taken out in the version in which its old key ends (a test fails until it is). From then on the old key is
an unknown key, whose message names the closest known one.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from mlcl.errors import ConfigError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Renamed:
    """A key with a new name and the same values."""

    old: str
    new: str
    since: str
    """The version that renamed it."""
    until: str
    """The first version that does not take the old key."""
    places: tuple[str, ...]
    """The mappings that have the key, by their own keys (`losses.*.training`); `*` is any name, `` the file itself."""

    def stands_in(self, place: str) -> bool:
        return any(fnmatchcase(place, pattern) for pattern in self.places)


TRAINING = ("training", "*.training", "*.finetuning", "search.space", "search.losses.*", "tuned.rows.*")
"""Where settings of training stand."""
ENCODER = ("encoders.*.*", "variants.*.encoder")
"""Where settings of an encoder stand."""

RENAMED = (
    Renamed("optimiser", "optimizer", since="0.1.0", until="0.3.0", places=TRAINING),
    Renamed("tokeniser", "tokenizer", since="0.1.0", until="0.3.0", places=ENCODER),
)


def with_new_keys(
    content: dict[str, Any], file: Path, renamed: Sequence[Renamed] = RENAMED
) -> dict[str, Any]:
    """A study's content with the new names of its keys; each old one is warned of, with its place.

    Raises ConfigError where the old and the new name stand in one mapping.
    """
    return _renamed(content, (), file, renamed)


def _renamed(
    mapping: dict[str, Any], keys: tuple[str, ...], file: Path, renamed: Sequence[Renamed]
) -> dict[str, Any]:
    place = ".".join(keys)
    new_names = {entry.old: entry for entry in renamed if entry.stands_in(place)}
    result: dict[str, Any] = {}
    for key, value in mapping.items():
        where = ".".join((*keys, str(key)))
        name = key
        if key in new_names:
            entry = new_names[key]
            name = entry.new
            if name in mapping:
                raise ConfigError(
                    f"{file}: {where}: is the old name of '{name}', which stands there too; remove '{key}'"
                )
            log.warning(
                "%s: %s: is called '%s' since %s; the old name works until %s",
                file, where, name, entry.since, entry.until,
            )  # fmt: skip
        inside = (*keys, str(name))
        result[name] = _renamed(value, inside, file, renamed) if isinstance(value, dict) else value
    return result
