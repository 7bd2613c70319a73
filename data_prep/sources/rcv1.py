"""RCV1-v2: newswire with 103 topics, in the tokenised form of Lewis et al. 2004 (stop words removed, stemmed).

Layout as in the online appendices 8 and 12 of that paper: lyrl2004_tokens_train.dat and
lyrl2004_tokens_test_pt{0,1,2,3}.dat hold documents `.I <number>`, `.W`, lines of tokens, an empty line;
rcv1-v2.topics.qrels has a line `<topic> <number> 1` for each topic of a document.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from data_prep.errors import DataError
from data_prep.readers.labels import by_frequency
from data_prep.readers.lines import lines
from data_prep.readers.splits import validation_rows
from data_prep.source import About, RawFile, RawPaths, Settings, Source

if TYPE_CHECKING:
    from data_prep.writer import DatasetWriter

ABOUT = About(
    title="RCV1-v2",
    citation="Lewis et al.: RCV1: A New Benchmark Collection for Text Categorization Research. JMLR 5, 2004.",
    homepage="https://trec.nist.gov/data/reuters/reuters.html",
    licence="Reuters agreement through NIST: research use by those who signed it.",
    by_hand="sign the agreement with NIST, then take lyrl2004_tokens_train.dat, lyrl2004_tokens_test_pt0.dat to "
    "pt3.dat (online appendix 12) and rcv1-v2.topics.qrels (appendix 8) of the paper; gzipped files are fine",
    published={"labels": 103, "examples": {"train+val": 23149, "test": 781265}},
    published_from="the paper",
)
CITATIONS = {"lewis2004rcv1": ""}

TRAIN = RawFile("lyrl2004_tokens_train.dat")
TESTS = tuple(RawFile(f"lyrl2004_tokens_test_pt{part}.dat") for part in range(4))
TOPICS = RawFile("rcv1-v2.topics.qrels")


class Rcv1Settings(Settings):
    """Validation share."""

    val: float = Field(default=0.1, gt=0, lt=1, description="share of the training documents for validation")
    seed: int = Field(default=0, ge=0, description="which documents")


def prepare(settings: Rcv1Settings, raw: RawPaths, writer: DatasetWriter) -> None:
    """Write the official split (LYRL2004); validation is taken from training."""
    topics, names = _topics(raw[TOPICS.path])
    writer.labels(names)
    training = sum(1 for _ in _documents(raw[TRAIN.path]))
    held_out = validation_rows(training, settings.val, settings.seed)
    writer.note(f"Validation: {settings.val:.0%} of the official training documents, at random.")
    for row, (where, number, text) in enumerate(_documents(raw[TRAIN.path])):
        writer.split("val" if held_out[row] else "train").add(
            number, topics.get(number, []), text, where=where
        )
    for file in TESTS:
        for where, number, text in _documents(raw[file.path]):
            writer.split("test").add(number, topics.get(number, []), text, where=where)


def _topics(path: Path) -> tuple[dict[str, list[int]], list[str]]:
    """Document number -> numbers of its topics; the topics' names by frequency."""
    found: dict[str, list[str]] = {}
    counts: Counter[str] = Counter()
    for where, line in lines(path):
        cells = line.split()
        if len(cells) != 3:
            raise DataError(f"{where}: expected a topic, a document number and 1")
        found.setdefault(cells[1], []).append(cells[0])
        counts[cells[0]] += 1
    names = by_frequency(counts)
    number_of = {name: number for number, name in enumerate(names)}
    return {document: [number_of[name] for name in listed] for document, listed in found.items()}, names


def _documents(path: Path) -> Iterator[tuple[str, str, str]]:
    """Each document as (where, number, text)."""
    number, begun, words = "", "", list[str]()
    for where, line in lines(path):
        if line.startswith(".I "):
            if number:
                yield begun, number, " ".join(words)
            number, begun, words = line[3:].strip(), where, []
        elif not number:
            raise DataError(f"{where}: expected '.I <number>'")
        elif line.strip() and line != ".W":
            words.append(line.strip())
    if number:
        yield begun, number, " ".join(words)


SOURCE = Source(
    about=ABOUT,
    modality="text",
    settings=Rcv1Settings,
    files=lambda settings: (TRAIN, *TESTS, TOPICS),
    prepare=prepare,
)
