"""Label names: their one form, their order, and signs that they were misread."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

SPACES = re.compile(r"\s+")
# Explicit direction marks turn the text that follows them around, in terminals and pages.
DIRECTION = re.compile("[\u202a-\u202e\u2066-\u2069]")
# Halves of a character beyond 16 bits, as JSON holds them where a text was cut: UTF-8 has no form for them.
LONE_SURROGATE = re.compile("[\ud800-\udfff]")
JOINTS = (";", "|", ",", "\t", "\n")
WEAK_JOINTS = ("/", "&", "+", " ")
PAIRS = {"[": "]", "{": "}", "(": ")"}
MISSING = {"nan", "na", "n/a", "<na>", "null", "none", "nat", "#n/a", "#na", "nil"}
"""What pandas and others write for a missing value, in lower case."""


def by_frequency(counts: Counter[str]) -> list[str]:
    """The most frequent first, equal ones by name: the same on every machine."""
    return sorted(counts, key=lambda label: (-counts[label], label))


def normal_form(name: str) -> str:
    """Unicode NFC, without space at the ends, other space as single spaces (as texts are normalised)."""
    return SPACES.sub(" ", unicodedata.normalize("NFC", name)).strip()


def defect(name: str) -> str | None:
    """Why a text cannot be a label name; None where it can."""
    if not name.strip():
        return "is empty"
    if LONE_SURROGATE.search(name):
        return "holds half a character (a lone surrogate)"
    for character in name.strip():
        if unicodedata.category(character) == "Cc" or DIRECTION.match(character):
            kind = "a line break" if character in "\r\n" else "a control character"
            return f"holds {kind} (U+{ord(character):04X})"
    return None


def shown(name: str) -> str:
    """A name for a message: quoted, control characters as escapes, not longer than a line."""
    quoted = repr(name) if name.isprintable() else ascii(name)
    return quoted if len(quoted) <= 80 else f"{quoted[:77]}..."


def visible(text: str) -> str:
    """A text for a terminal: control characters, direction marks and half characters as escapes."""
    return "".join(
        character
        if unicodedata.category(character) not in ("Cc", "Cs") and not DIRECTION.match(character)
        else character.encode("unicode_escape", "surrogatepass").decode("ascii")
        for character in text
    )


def near_equal(names: Iterable[str]) -> list[list[str]]:
    """Groups of names that differ by case, space, hyphens or width of characters only."""
    groups: dict[str, list[str]] = {}
    for name in names:
        folded = re.sub(
            r"[\s_\-\u200b-\u200d\u2060\ufeff]+", "", unicodedata.normalize("NFKC", name).casefold()
        )
        groups.setdefault(folded or name, []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def looks_like_a_list(name: str) -> bool:
    """Whether a name looks like a piece of a list: brackets at its ends that are not closed, or all in quotes."""
    if len(name) > 1 and name[0] == name[-1] and name[0] in "'\"":
        return True
    for start, end in PAIRS.items():
        if name.startswith(start) and (end not in name or name[1:2] in ("'", '"')):
            return True
        if name.endswith(end) and start not in name:
            return True
    return bool(re.match(r"[\[{(]\s*['\"].*['\"]\s*[\]})]$", name))


def looks_missing(name: str) -> bool:
    """Whether a name is what programs write for a missing value."""
    return name.lower() in MISSING


def joined(names: Iterable[str], joints: Iterable[str] = JOINTS) -> tuple[str, str] | None:
    """A name that looks like several labels, and the character that joins them; None where there is none.

    The sign: all its parts are labels themselves, or parts of other such names.
    """
    listed = list(dict.fromkeys(names))
    for joint in joints:
        compound = {name: parts for name in listed if len(parts := _parts(name, joint)) > 1}
        seen = Counter(part for name in listed for part in set(_parts(name, joint)))
        strong = [name for name, parts in compound.items() if all(seen[part] > 1 for part in parts)]
        if strong and (joint not in WEAK_JOINTS or _is_a_pattern(listed, strong, seen)):
            return strong[0], joint
    return None


def _parts(name: str, joint: str) -> list[str]:
    return [part for piece in name.split(joint) if (part := piece.strip())]


def _is_a_pattern(names: list[str], strong: list[str], seen: Counter[str]) -> bool:
    """Words recur in ordinary names, too: ask for several, and for fewer parts than names."""
    return len(strong) > 2 and len(seen) < len(names)
