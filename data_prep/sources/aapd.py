"""AAPD: abstracts of arXiv papers with 54 subjects.

Layout as the authors of SGM distribute it: text_{train,val,test} with one abstract in each line and
label_{train,val,test} with its subjects, separated by spaces (`cs.it math.it`).
"""

from __future__ import annotations

from collections import Counter
from itertools import zip_longest
from typing import TYPE_CHECKING

from pydantic import Field

from data_prep.errors import DataError
from data_prep.readers.labels import by_frequency
from data_prep.readers.lines import lines
from data_prep.readers.text import Cleaning, clean
from data_prep.source import About, RawFile, RawPaths, Settings, Source

if TYPE_CHECKING:
    from data_prep.writer import DatasetWriter

ABOUT = About(
    title="AAPD",
    citation="Yang et al.: SGM: Sequence Generation Model for Multi-label Classification. COLING 2018.",
    homepage="https://github.com/lancopku/SGM",
    licence="No licence stated; abstracts of arXiv papers. Research use, cite the paper.",
    by_hand="download the AAPD files that the homepage links to and put text_train, label_train, text_val, label_val, "
    "text_test and label_test here",
    published={"labels": 54, "examples": {"train": 53840, "val": 1000, "test": 1000}},
    published_from="the authors' paper and files",
)
CITATIONS = {"yang2018sgm": ""}

FILES = {
    f"{kind}_{split}": RawFile(f"{kind}_{split}")
    for split in ("train", "val", "test")
    for kind in ("text", "label")
}


class AapdSettings(Settings):
    """How the abstracts are read."""

    cleaning: Cleaning = Field(default="plain", description="plain, or comprehensive (ASCII, lower case)")


def prepare(settings: AapdSettings, raw: RawPaths, writer: DatasetWriter) -> None:
    """Write the three splits as given."""
    counts = Counter(
        label
        for split in ("train", "val", "test")
        for _, row in lines(raw[f"label_{split}"])
        for label in row.split()
    )
    writer.labels(by_frequency(counts))
    for split in ("train", "val", "test"):
        pairs = zip_longest(lines(raw[f"text_{split}"]), lines(raw[f"label_{split}"]))
        for number, (text, labels) in enumerate(pairs):
            if text is None or labels is None:
                raise DataError(
                    f"{raw[f'text_{split}']} and {raw[f'label_{split}']} have different numbers of lines"
                )
            row_id = f"{split}-{number}"
            writer.split(split).add(
                row_id, labels[1].split(), clean(text[1], settings.cleaning), where=text[0]
            )


SOURCE = Source(
    about=ABOUT,
    modality="text",
    settings=AapdSettings,
    files=lambda settings: tuple(FILES.values()),
    prepare=prepare,
)
