"""What the cells of a column that lists labels say, decided for the whole column.

names          a;b    ["a", "b"]    [{"name": "a"}, {"name": "b"}]    {"a": 1, "b": 0}
lists in text  ['a', 'b'] (pandas)    ['a' 'b'] (numpy)    {'a', 'b'} (sets)    ["a"] (JSON)    {a,b} (Postgres)
               a    ["a", "b"]    {"choices": ["a", "b"]}: a name where there is one, else JSON (Label Studio)
numbers        3    [0, 5]: each number is a label, or a class number where the column declares classes
multi-hot      [0.0, 1.0, 0.0]: a value for each label, the form that transformers trains on
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from data_prep.errors import DataError, closest
from data_prep.readers.json_stream import unique_keys
from data_prep.readers.labels import (
    INVISIBLE,
    WEAK_JOINTS,
    by_frequency,
    combined,
    defect,
    joined,
    look_like_vectors,
    looks_like_a_list,
    looks_missing,
    normal_form,
    shown,
)

BRACKETS = {"[": "]", "{": "}", "(": ")"}
BITS = {
    "0": 0.0,
    "1": 1.0,
    "0.0": 0.0,
    "1.0": 1.0,
    "false": 0.0,
    "true": 1.0,
    "no": 0.0,
    "yes": 1.0,
}
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
QUOTED = re.compile(r"""'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)\"""", re.DOTALL)
BARE = re.compile(r"""[^,'"\[\]{}():]+""")
CONSTANTS = {"true": True, "false": False, "none": None, "null": None}


@dataclass(frozen=True)
class Reading:
    """A cell's labels as names, or as numbers; as both where texts are numbers that may be those of a vector.

    Attributes:
        listed: whether the numbers stood in a list.
        complete: whether it had no missing values, so that it may be a vector.
        real: whether they are floats or booleans, which label numbers are not.
    """

    names: tuple[str, ...] = ()
    numbers: tuple[float, ...] = ()
    listed: bool = False
    complete: bool = True
    real: bool = False

    @property
    def all_names(self) -> tuple[str, ...]:
        """The names, if these are labels of their own or label numbers."""
        return self.names or tuple(
            f"{number:.0f}" if number.is_integer() else f"{number:g}" for number in self.numbers
        )


@dataclass
class _Observed:
    """What all cells of a column look like, under one way to read them."""

    counts: Counter[str] = field(default_factory=Counter)
    defect: str = ""
    first: dict[str, str] = field(default_factory=dict)
    lengths: Counter[int] = field(default_factory=Counter)
    other_than_lists: bool = False
    not_binary: str = ""
    fraction: str = ""
    repeated: str = ""
    incomplete: bool = False
    real: bool = False
    entries: set[int] = field(default_factory=set)
    """How many names the cells list."""
    listed_twice: str = ""

    def add(self, reading: Reading, where: str) -> None:
        for raw in reading.all_names:
            if (reason := defect(raw)) and not self.defect:
                self.defect = f"{where}: label {shown(raw)} {reason}"
            name = normal_form(raw)
            self.counts[name] += 1
            self.first.setdefault(name, where)
        if reading.names:
            self.entries.add(len(reading.names))
            if len(set(reading.names)) < len(reading.names) and not self.listed_twice:
                self.listed_twice = where
        self._observe_numbers(reading, where)

    def _observe_numbers(self, reading: Reading, where: str) -> None:
        numbers = reading.numbers
        fraction = next((number for number in numbers if not number.is_integer()), None)
        if fraction is not None and not self.fraction:
            self.fraction = f"{where}: {fraction:g}"
        if not (reading.listed and numbers):
            self.other_than_lists |= bool(reading.names or numbers)
            return
        self.lengths[len(numbers)] += 1
        if not set(numbers) <= {0.0, 1.0}:
            self.not_binary = self.not_binary or where
        if len(set(numbers)) < len(numbers) and not self.repeated:
            self.repeated = where
        self.incomplete |= not reading.complete
        self.real |= reading.real and reading.complete

    @property
    def of_two_words(self) -> bool:
        """Whether the cells are vectors of other words than 0 and 1: of two words, of one length, with repetitions."""
        return len(self.counts) == 2 and len(self.entries) == 1 and bool(self.listed_twice)

    @property
    def binary(self) -> bool:
        """Whether all cells are lists of zeros and ones."""
        return bool(self.lengths) and not (self.other_than_lists or self.not_binary or self.incomplete)


class LabelColumn:
    """The labels of a column that lists them: `observe` every cell, `decide` once, then read cells with `labels`.

    Args:
        column: its name, for messages.
        separator: between the labels of a text.
        names: a closed list of labels, or the names of a vector's positions; empty where the cells decide.
        names_setting: what the setting that gives these names is called.
        na_values: texts that stand for no label.
        class_numbers: whether numbers are indices into `names` (a ClassLabel of the `datasets` library).
    """

    def __init__(
        self,
        column: str,
        separator: str,
        names: Sequence[str],
        names_setting: str = "labels",
        na_values: Sequence[str] = (),
        class_numbers: bool = False,
    ) -> None:
        self.column, self.separator, self.names_setting = column, separator, names_setting
        self.names = [normal_form(name) for name in names]
        self.warnings: list[str] = []
        self._known = set(self.names)
        self._na_values = set(na_values)
        self._class_numbers = class_numbers
        self._plain, self._as_lists = _Observed(), _Observed()
        self._in_text = self._only_lists_in_text = False
        self._other_text = ""
        self._lists_in_text = self._json = False
        self._only_json = True
        self._multi_hot = False

    def observe(self, value: Any, where: str) -> None:
        """Take note of a cell. Raises DataError for one that can hold no labels."""
        value = self._without_missing(value)
        if value is None:
            return
        plain = self._read(value, where)
        listed = self._of_text_list(value, where) if isinstance(value, str) else None
        if isinstance(value, str) and value.strip():
            self._in_text = True
            if listed is None:
                self._other_text = self._other_text or f"{where} holds {shown(value.strip())}"
            else:
                json_list = _json_in_text(value)
                self._lists_in_text = True
                self._json |= bool(json_list)
                self._only_json &= json_list is not None
        self._plain.add(plain, where)
        self._as_lists.add(listed or plain, where)

    def decide(self) -> list[str]:
        """All labels, in order.

        Raises:
            DataError: vectors without names or of different lengths, numbers that are no label numbers, names that
                look misread (pieces of lists, several labels joined by another separator, missing values).
        """
        mixed = self._json and self._only_json  # a name where there is one, JSON where there are several
        self._only_lists_in_text = self._in_text and (mixed or not self._other_text)
        seen = self._as_lists if self._only_lists_in_text else self._plain
        if seen.defect:
            several = self._in_text and "holds a line break" in seen.defect
            hint = '; if line breaks separate labels, set separator: "\\n"' if several else ""
            raise DataError(f"{seen.defect}{hint}")
        if self._is_multi_hot(seen):
            self._multi_hot = True
            return self.names
        if seen.fraction:
            raise DataError(
                f"{seen.fraction} in column {self.column!r} is no label number (a score or a target?)"
            )
        if seen.repeated:
            raise DataError(
                f"{seen.repeated}: column {self.column!r} lists a label number twice; vectors must hold zeros and ones "
                "only, in every row as many"
            )
        if self._class_numbers:
            return self.names
        self._refuse_odd(seen)
        return self.names or by_frequency(seen.counts)

    def labels(self, value: Any, where: str) -> list[str]:
        """The labels of a cell. Raises DataError for one that is not in the closed list."""
        value = self._without_missing(value)
        if value is None:
            return []
        in_text = isinstance(value, str) and self._only_lists_in_text
        reading = (self._of_text_list(value, where) if in_text else None) or self._read(value, where)
        if self._multi_hot:
            return [self.names[position] for position, bit in enumerate(reading.numbers) if bit]
        if self._class_numbers and reading.numbers:
            return [self._class_name(number, where) for number in reading.numbers]
        return [self._in_closed_list(normal_form(name), where) for name in reading.all_names]

    def _is_multi_hot(self, seen: _Observed) -> bool:
        """Whether the lists are vectors: repeated numbers, or floats, tell them from label numbers."""
        if not seen.binary or not (seen.real or seen.repeated or set(seen.lengths) == {2}):
            return False
        if seen.entries and self._known.issuperset(seen.counts):
            return False  # the words are labels: yes and no, say
        where = next(iter(seen.first.values()))
        if len(seen.lengths) > 1:
            lengths = ", ".join(map(str, sorted(seen.lengths)[:5]))
            raise DataError(
                f"{where}: column {self.column!r} holds lists of zeros and ones of different lengths ({lengths}): "
                "vectors must have one value for each label, label numbers must differ within a row"
            )
        (length,) = seen.lengths
        if length == len(self.names):
            return True
        raise DataError(
            f"{where}: column {self.column!r} holds vectors of {length} zeros and ones; name these labels, in order, "
            f"with {self.names_setting}: [...] ({len(self.names) or 'none'} given)"
        )

    def _refuse_odd(self, seen: _Observed) -> None:
        open_names = [name for name in seen.counts if name not in self._known]
        if bits := look_like_vectors(open_names):
            raise DataError(
                f"{seen.first.get(bits, '')}: label {shown(bits)} looks like a vector of zeros and ones; write it as "
                f"[0, 1, 1] and name its labels, in order, with {self.names_setting}"
            )
        if seen.of_two_words and open_names:
            raise DataError(
                f"{seen.listed_twice}: column {self.column!r} looks like vectors of the words "
                f"{' and '.join(map(shown, sorted(seen.counts)))}; write them as 0 and 1 and name their labels, in "
                f"order, with {self.names_setting} (if the words are the labels, list them there)"
            )
        for name in open_names:
            where = seen.first.get(name, self.column)
            if found := INVISIBLE.search(name):
                raise DataError(
                    f"{where}: label {shown(name)} holds an invisible character (U+{ord(found[0]):04X}); remove it, or "
                    f"list all labels in {self.names_setting}"
                )
            if re.fullmatch(r"-\d+", name) and not self.names:
                raise DataError(
                    f"{where}: label {name} is negative; if it stands for no label, set na_values: ['{name}']"
                )
            if looks_like_a_list(name):
                other = f" ({self._other_text})" if self._lists_in_text and self._other_text else ""
                raise DataError(
                    f"{where}: label {shown(name)} looks like a piece of a list; the cells of column "
                    f"{self.column!r} must all be lists{other}, or names joined by {self.separator!r} (or list all "
                    f"labels in {self.names_setting})"
                )
            if looks_missing(name):
                raise DataError(
                    f"{where}: label {shown(name)} looks like a missing value; set na_values: ['{name}'] to read it "
                    f"as no label, or list all labels in {self.names_setting}"
                )
        if self.names:
            return
        if several := joined(seen.counts) or combined(seen.counts):
            name, joint = several
            message = f"label {shown(name)} looks like several, joined by {joint!r}"
            if self._in_text:
                advice = f"set separator: {_yaml(joint)}"
                if self._only_lists_in_text:
                    advice = "separate the entries of lists by commas"
                raise DataError(
                    f"{seen.first.get(name, self.column)}: {message}; {advice}, or list all labels in "
                    f"{self.names_setting}"
                )
            self.warnings.append(message)
        elif several := joined(seen.counts, WEAK_JOINTS):
            self.warnings.append(f"label {shown(several[0])} looks like several, joined by {several[1]!r}")

    def _in_closed_list(self, name: str, where: str) -> str:
        if self.names and name not in self._known:
            several = joined([name, *self.names])
            hint = f" (several, joined by {several[1]!r}? set separator)" if several else ""
            raise DataError(
                f"{where}: label {shown(name)} is not in the list{hint}: {closest(name, self.names)}"
            )
        return name

    def _class_name(self, number: float, where: str) -> str:
        if not number.is_integer() or not 0 <= number < len(self.names):
            hint = "; if it stands for no label, set na_values: ['-1']" if number == -1 else ""
            raise DataError(
                f"{where}: {number:g} is no class number of column {self.column!r}: it has {len(self.names)} "
                f"classes, from 0{hint}"
            )
        return self.names[int(number)]

    def _read(self, value: Any, where: str) -> Reading:
        if isinstance(value, str):
            return _of_texts([name for part in value.split(self.separator) if (name := part.strip())])
        if isinstance(value, dict):
            return self._of_dictionary(value, where)
        if isinstance(value, list):
            return self._of_list(value, where)
        if isinstance(value, bool):
            raise DataError(
                f"{where}: {value} in column {self.column!r} is no label name; columns of true and false are named "
                "by label_columns"
            )
        if isinstance(value, int | float) and math.isfinite(value):
            return Reading(numbers=(float(value),))
        raise DataError(f"{where}: column {self.column!r} holds {shown(str(value))}, which is no label")

    def _of_text_list(self, text: str, where: str) -> Reading | None:
        """A list that a program wrote as text; None where the text is none."""
        found = _json_in_text(text)
        if found is None:
            found = _list_in_text(text)
        if isinstance(found, dict):
            return self._of_dictionary(found, where)
        return None if found is None else self._of_list(found, where)

    def _of_list(self, value: list[Any], where: str) -> Reading:
        entries = [entry for entry in value if not self._is_missing(entry)]
        if entries and all(isinstance(entry, int | float) and math.isfinite(entry) for entry in entries):
            complete = len(entries) == len(value)  # with nulls in it, it is no vector
            real = any(isinstance(entry, bool | float) for entry in entries)
            return Reading(
                numbers=tuple(map(float, entries)), listed=True, complete=complete, real=real and complete
            )
        return _of_texts([name for entry in entries if (name := self._entry(entry, where))])

    def _entry(self, entry: Any, where: str) -> str:
        if isinstance(entry, str):
            return entry.strip()
        if isinstance(entry, int) and not isinstance(entry, bool):
            return str(entry)
        if isinstance(entry, dict):
            if len(entry) == 1 and isinstance(name := next(iter(entry.values())), str):
                return name.strip()
            raise DataError(
                f"{where}: column {self.column!r} lists objects with the keys {', '.join(map(str, entry))}; only "
                "objects with one key, which holds the label's name, are read"
            )
        raise DataError(f"{where}: column {self.column!r} lists {shown(str(entry))}, which is no label name")

    def _of_dictionary(self, value: dict[Any, Any], where: str) -> Reading:
        """{label: 0 or 1}; or one key with a list of names, the form that `datasets` gives to lists of objects."""
        if len(value) == 1 and isinstance(listed := next(iter(value.values())), list):
            return self._of_list(listed, where)
        for name, there in value.items():
            if there not in (0, 1):
                raise DataError(
                    f"{where}: column {self.column!r} says {shown(str(name))}: {shown(str(there))}, expected 0 or 1 "
                    "for each label"
                )
            # A label that holds nowhere is a label all the same.
            self._plain.counts[normal_form(str(name))] += 0
            self._as_lists.counts[normal_form(str(name))] += 0
        return Reading(tuple(str(name) for name, there in value.items() if there))

    def _without_missing(self, value: Any) -> Any:
        if isinstance(value, bytes):
            value = value.decode("utf-8", errors="replace")
        elif isinstance(value, set | frozenset | tuple):
            value = list(value)
        elif hasattr(value, "tolist"):
            value = value.tolist()
        return None if self._is_missing(value) else value

    def _is_missing(self, value: Any) -> bool:
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return True
        return isinstance(value, str | int | float) and str(value).strip() in self._na_values


def _of_texts(names: list[str]) -> Reading:
    """Names; where they are several zeros and ones they may be the values of a vector."""
    if len(names) > 1 and all(name.lower() in BITS for name in names):
        numbers = tuple(BITS[name.lower()] for name in names)
        return Reading(tuple(names), numbers, listed=True, real=not all(name in ("0", "1") for name in names))
    return Reading(tuple(names))


def _json_in_text(text: str) -> list[Any] | dict[str, Any] | None:
    """The list of texts or objects, or the object, that a text in JSON says; None for other texts, also numbers."""
    text = text.strip()
    if not text.startswith(("[", "{")):
        return None
    try:
        found = json.loads(text, object_pairs_hook=unique_keys)
    except (ValueError, RecursionError):
        return None
    if isinstance(found, list) and not all(isinstance(entry, str | dict) for entry in found):
        return None
    return found if isinstance(found, list | dict) else None


def _list_in_text(text: str) -> list[Any] | None:
    """The list that a program wrote as text; None where the text is none. Takes one pass over the text."""
    text = text.strip()
    if text == "set()":
        return []
    if len(text) < 2 or BRACKETS.get(text[0]) != text[-1]:
        return None
    inner = text[1:-1].strip()
    words = inner.replace(",", " ").split()
    if all(NUMBER.fullmatch(word) or word.lower() in ("true", "false") for word in words):
        return [_constant(word) for word in words]
    entries: list[Any] = []
    position, quoted = 0, False
    while position < len(inner):
        if match := QUOTED.match(inner, position):
            group = match[1] if match[1] is not None else match[2]
            entries.append(re.sub(r"\\(.)", r"\1", group))
            quoted = True
        elif match := BARE.match(inner, position):
            entries.append(_constant(match[0].strip()))
        else:
            return None
        position = match.end()
        rest = inner[position : position + 1]
        while rest.isspace():
            position += 1
            rest = inner[position : position + 1]
        if rest == ",":
            position += 1
            while inner[position : position + 1].isspace():
                position += 1
        elif rest and not quoted:
            return None
    return entries if quoted or text[0] != "(" else None


def _constant(word: str) -> Any:
    if word.lower() in CONSTANTS:
        return CONSTANTS[word.lower()]
    if NUMBER.fullmatch(word):
        return int(word) if word.lstrip("+-").isdecimal() and len(word) < 20 else float(word)
    return word


def _yaml(joint: str) -> str:
    return '"\\t"' if joint == "\t" else '"\\n"' if joint == "\n" else f'"{joint}"'
