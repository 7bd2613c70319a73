"""A publication in the fields of BibTeX, and the entry that is printed for it (`mlcl cite`)."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

ARTICLES = {"a", "an", "the"}
ACCENTS = {
    "\N{COMBINING GRAVE ACCENT}": "`",
    "\N{COMBINING ACUTE ACCENT}": "'",
    "\N{COMBINING CIRCUMFLEX ACCENT}": "^",
    "\N{COMBINING TILDE}": "~",
    "\N{COMBINING DIAERESIS}": '"',
    "\N{COMBINING CARON}": "v ",
    "\N{COMBINING CEDILLA}": "c ",
}
"""Combining character -> TeX's accent."""
LETTERS = {"ø": ("{\\o}", "o"), "ł": ("{\\l}", "l"), "ß": ("{\\ss}", "ss"), "’": ("'", "")}
"""Letters that are not made of a plain one and an accent -> TeX's name, and what a key has for it."""


@dataclass(frozen=True)
class Citation:
    """A publication. Names and titles are Unicode; braces in a title keep the case of what they enclose.

    Attributes:
        author: as BibTeX has it: `Family, Given and Family, Given`, `and others` where there are more; an organisation
            in braces; empty where the authors are not known, and the entry is sorted by its title then.
        journal, booktitle: at most one of them; without one the entry is a `@misc`.
        eprint: the number in arXiv.
        part: which part of a dataset it describes (`splits`), where it does not describe the whole.
    """

    title: str
    year: int
    author: str = ""
    journal: str = ""
    booktitle: str = ""
    volume: str = ""
    howpublished: str = ""
    eprint: str = ""
    url: str = ""
    note: str = ""
    part: str = ""

    @property
    def key(self) -> str:
        """Family name of the first author, year, first word of the title: `demszky2020goemotions`.

        The first word of the title alone where no person is named: `torchvision`.
        """
        word = next(word for word in map(_plain, self.title.split()) if word and word not in ARTICLES)
        family = "" if self.author.startswith("{") else _plain(self.author.split(",")[0])
        return f"{family}{self.year}{word}" if family else word

    def entry(self, key: str = "") -> str:
        """The BibTeX entry, in ASCII."""
        kind = "article" if self.journal else "inproceedings" if self.booktitle else "misc"
        arxiv = f"arXiv:{self.eprint}" if self.eprint else ""
        fields = {
            "author": tex(self.author),
            "key": "" if self.author else tex(self.title),
            "title": tex(_case_kept(self.title)),
            "journal": tex(self.journal),
            "booktitle": tex(self.booktitle),
            "volume": self.volume,
            "howpublished": tex(self.howpublished),
            "year": str(self.year),
            "eprint": self.eprint,
            "archivePrefix": "arXiv" if self.eprint else "",
            "url": self.url,
            "note": tex("; ".join(filter(None, (self.note, arxiv)))),
        }
        lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value]
        return "\n".join([f"@{kind}{{{key or self.key},", *lines, "}"])


def tex(text: str) -> str:
    """Text as TeX writes it in ASCII: accents, and its special characters (braces and backslashes stay)."""
    found = []
    for character in unicodedata.normalize("NFC", text):
        decomposed = unicodedata.normalize("NFD", character)
        base, marks = decomposed[0], decomposed[1:]
        if character in LETTERS:
            found.append(LETTERS[character][0])
        elif marks and marks[0] in ACCENTS:
            found.append(f"{{\\{ACCENTS[marks[0]]}{base}}}")
        else:
            found.append(f"\\{character}" if character in "&%#_$" else character)
    return "".join(found)


def _plain(word: str) -> str:
    """Small letters and digits without accents."""
    for letter, (_, plain) in LETTERS.items():
        word = word.replace(letter, plain)
    return re.sub(r"[^a-z0-9]", "", unicodedata.normalize("NFD", word.lower()))


def _case_kept(title: str) -> str:
    """Words such as COCO and GoEmotions in braces, because styles print titles in small letters.

    A colon stays outside: the word after it keeps its capital letter.
    """

    def kept(match: re.Match[str]) -> str:
        word = match[0]
        return f"{{{word}}}" if any(re.search(r"[A-Za-z].*[A-Z]", part) for part in word.split("-")) else word

    return re.sub(r"\{[^}]*\}|[\w-]+", lambda match: match[0] if match[0][0] == "{" else kept(match), title)
