"""Label names: their one form, their order, and signs that they were misread."""

from __future__ import annotations

import re
import string
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
QUOTATION_MARKS = {"'": "'", '"': '"', "`": "`", "‘": "’", "“": "”", "„": "“", "«": "»"}
MISSING = {"nan", "na", "n/a", "<na>", "null", "none", "nat", "#n/a", "#na", "nil"}
"""What pandas and others write for a missing value, in lower case."""
EMPTY_LIST = re.compile(
    r"(any|array|character|dict|frozenset|integer|list|logical|numeric|set|string|tuple|vector)?"
    r"(\[\s*\]|\{\s*\}|\(\s*0?\s*\))",
    re.IGNORECASE,
)
"""What programs write for an empty list: `[]`, `set()`; `character(0)` (R), `String[]` (Julia)."""
PIECE_OF_A_LIST = re.compile(
    r"[\[{(]\s*[a-z]{0,2}['\"]|['\"]\s*[\]})]|^\w+\([\[{]|^(\.\.\.|…)$|^<[^\W\d][^>]*$|^[^<]*[^\W\d]>$"
)
"""Brackets beside quotation marks; `array([`, `frozenset({`; the dots of a shortened list; `<a`, `b>`."""
MARKUP = re.compile(r"<(\w+)[^>]*>.*</\1>$", re.DOTALL)
VECTOR = re.compile(r"[01](\W*[01])+")
# They change no name that is read, and make two of what looks like one. Joiners (U+200C, U+200D) have a meaning.
INVISIBLE = re.compile(
    "[\u00ad\u061c\u115f\u1160\u180e\u200b\u200e\u200f\u2060-\u2064\u206a-\u206f\u2800\u3164\ufeff\uffa0\ufff9-\ufffb"
    "\U000e0000-\U000e007f]"
)
WORDS_THAT_JOIN = ("and", "or")
MANY_JOINED = 3


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
    if len(name) > 1 and QUOTATION_MARKS.get(name[0]) == name[-1]:
        return True
    for start, end in PAIRS.items():
        if name.startswith(start) and end not in name:
            return True
        if name.endswith(end) and start not in name and len(name) > 1:
            return True
    return bool(PIECE_OF_A_LIST.search(name) or MARKUP.match(name))


def looks_missing(name: str) -> bool:
    """Whether a name is what programs and people write for a missing value; a sign alone (-, ?) is one."""
    return (
        name.lower() in MISSING
        or bool(EMPTY_LIST.fullmatch(name))
        or all(character in string.punctuation for character in name)
    )


def look_like_vectors(names: Iterable[str]) -> str | None:
    """A name if all of them are zeros and ones of one length, some other than a number: `0110` or `0 1 1 0`."""
    listed = list(names)
    if len(listed) < 2 or len({len(name) for name in listed}) > 1 or not all(map(VECTOR.fullmatch, listed)):
        return None
    return next((name for name in listed if name[0] == "0" or not name.isdigit()), None)


def combined(names: Iterable[str]) -> tuple[str, str] | None:
    """A name, and what joins its parts, where all names with this joint are made of names without it.

    So are `red, green, blue, red-green, green-blue, green-red-blue`. None for less than `MANY_JOINED` such names.
    """
    listed = list(dict.fromkeys(names))
    signs = Counter(sign for name in listed for sign in set(re.findall(r"[\W_]", name)))
    for joint in [*(f" {word} " for word in WORDS_THAT_JOIN), *(sign for sign, _ in signs.most_common(20))]:
        parts = {name: _parts(name, joint) for name in listed}
        single = {of[0] for of in parts.values() if len(of) == 1}
        several = [name for name, of in parts.items() if len(of) > 1]
        if len(several) >= MANY_JOINED and all(single.issuperset(parts[name]) for name in several):
            return several[0], joint
    return None


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
