"""SemEval-2018 Task 1 E-c, English: tweets with eleven emotions.

Layout of the task's archive: English/E-c/2018-E-c-En-{train,dev,test-gold}.txt; a header line, then tab-separated
ID, Tweet and a column of 0 and 1 for each emotion; no quoting. The plain test file has NONE in every label cell
and is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from data_prep.errors import DataError
from data_prep.readers.lines import lines, tab_separated
from data_prep.readers.text import Cleaning, clean
from data_prep.source import About, RawFile, RawPaths, Settings, Source

if TYPE_CHECKING:
    from data_prep.writer import DatasetWriter

ABOUT = About(
    title="SemEval-2018 E-c (English)",
    citation="Mohammad et al.: SemEval-2018 Task 1: Affect in Tweets. SemEval 2018.",
    homepage="https://competitions.codalab.org/competitions/17751",
    licence="Terms of the AffectInTweets task: non-commercial research; tweets may not be published again. "
    "Content can be offensive.",
    by_hand="download the task's data (SemEval2018-Task1-all-data.zip) and put its folder English/E-c here",
    published={"labels": 11, "examples": {"train": 6838, "val": 886, "test": 3259}},
    published_from="the task's paper",
)
CITATIONS = {"mohammad2018semeval2018": ""}

FOLDER = "English/E-c/2018-E-c-En"
FILES = {
    "train": RawFile(f"{FOLDER}-train.txt"),
    "val": RawFile(f"{FOLDER}-dev.txt"),
    "test": RawFile(f"{FOLDER}-test-gold.txt"),
}


class SemEvalSettings(Settings):
    """How the tweets are read."""

    cleaning: Cleaning = Field(
        default="plain", description="plain, or comprehensive (ASCII, lower case) as the study's code"
    )


def prepare(settings: SemEvalSettings, raw: RawPaths, writer: DatasetWriter) -> None:
    """Write the three official splits."""
    names = _header(raw, "train")
    writer.labels(names)
    for split, file in FILES.items():
        if _header(raw, split) != names:
            raise DataError(f"{raw[file.path]}:1: its label columns differ from those of the training file")
        rows = tab_separated(raw[file.path], columns=2 + len(names))
        next(rows)
        for where, (row_id, text, *cells) in rows:
            labels = [name for name, cell in zip(names, cells, strict=True) if _is_set(cell, where)]
            writer.split(split).add(row_id, labels, clean(text, settings.cleaning), where=where)


def _header(raw: RawPaths, split: str) -> list[str]:
    path = raw[FILES[split].path]
    cells = next(lines(path), ("", ""))[1].split("\t")
    if cells[:2] != ["ID", "Tweet"] or len(cells) < 3:
        raise DataError(f"{path}:1: expected the header ID, Tweet, then the emotions")
    return cells[2:]


def _is_set(cell: str, where: str) -> bool:
    if cell == "NONE":
        raise DataError(
            f"{where}: the file has no labels (NONE); the test labels are in 2018-E-c-En-test-gold.txt"
        )
    if cell not in ("0", "1"):
        raise DataError(f"{where}: label cell {cell!r}, expected 0 or 1")
    return cell == "1"


SOURCE = Source(
    about=ABOUT,
    modality="text",
    settings=SemEvalSettings,
    files=lambda settings: tuple(FILES.values()),
    prepare=prepare,
)
