"""GoEmotions: Reddit comments with 27 emotions and neutral, from the official filtered splits.

Layout as in github.com/google-research/google-research, folder goemotions/data: tab-separated without header
and without quoting: text, label numbers joined by commas (lines of emotions.txt), comment id.
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
    title="GoEmotions",
    citation="Demszky et al.: GoEmotions: A Dataset of Fine-Grained Emotions. ACL 2020.",
    homepage="https://github.com/google-research/google-research/tree/master/goemotions",
    licence="CC BY 4.0. Comments from Reddit; some are offensive.",
    published={
        "labels": 28,
        "examples": {"train": 43410, "val": 5426, "test": 5427},
    },
    published_from="README of the official repository",
)
CITATIONS = {"demszky2020goemotions": ""}

URL = "https://github.com/google-research/google-research/raw/master/goemotions/data"
# Sizes and checksums of the tsv files: tensorflow/datasets, url_checksums/goemotions.txt.
TRAIN = RawFile(
    "data/train.tsv",
    (f"{URL}/train.tsv",),
    3519053,
    "1c254a142be5c00e80d819b9ae1bbd36d94b2eeb8f4b1271846508d57e57d9c5",
)
VAL = RawFile(
    "data/dev.tsv",
    (f"{URL}/dev.tsv",),
    439059,
    "575489c079c9de1097062a01738f998590d6b7ead66dd1c9fd1d2ba01fd8bc62",
)
TEST = RawFile(
    "data/test.tsv",
    (f"{URL}/test.tsv",),
    436706,
    "0587b2dd8b27b97352adbfc3fb083d46005c8946657fdc2b1ca8b1cc7f1f8be4",
)
EMOTIONS = RawFile(
    "data/emotions.txt",
    (f"{URL}/emotions.txt",),
    248,
    "45c3ef86782d2a4d7fedcd6d8c111aa0d0e94720689bd164fac94fefb4495a89",
)


class GoEmotionsSettings(Settings):
    """How the comments are read."""

    cleaning: Cleaning = Field(
        default="plain", description="plain, or comprehensive (ASCII, lower case) as the study's code"
    )


def prepare(settings: GoEmotionsSettings, raw: RawPaths, writer: DatasetWriter) -> None:
    """Write the three official splits."""
    emotions = [line for _, line in lines(raw[EMOTIONS.path]) if line]
    writer.labels(emotions)
    for split, file in (("train", TRAIN), ("val", VAL), ("test", TEST)):
        for where, (text, numbers, row_id) in tab_separated(raw[file.path], columns=3):
            labels = [_number(cell, where) for cell in numbers.split(",") if cell]
            writer.split(split).add(row_id, labels, clean(text, settings.cleaning), where=where)


def _number(cell: str, where: str) -> int:
    if not cell.isascii() or not cell.isdigit():
        raise DataError(f"{where}: {cell!r} is not a label number (a line of emotions.txt, from 0)")
    return int(cell)


SOURCE = Source(
    about=ABOUT,
    modality="text",
    settings=GoEmotionsSettings,
    files=lambda settings: (TRAIN, VAL, TEST, EMOTIONS),
    prepare=prepare,
)
