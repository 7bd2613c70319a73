"""Mulan's multi-label vector datasets, any of them by name: `mulan_yeast` reads RAW/mulan/yeast/.

Layout as in the authors' repository (github.com/tsoumakas/mulan, data/multi-label/<set>/): ARFF files with
the given training and test rows, or one file without a split, and an XML file that lists the labels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from data_prep.errors import DataError
from data_prep.published.mulan import COMMIT, FILES
from data_prep.readers.arff import ArffFile, label_list
from data_prep.readers.splits import assign, validation_rows
from data_prep.source import About, RawFile, RawPaths, Settings, Source

if TYPE_CHECKING:
    from data_prep.writer import DatasetWriter

URL = f"https://raw.githubusercontent.com/tsoumakas/mulan/{COMMIT}/data/multi-label"
# Where files are not named after the set: stem of the files, and what follows train and test.
STEMS = {"corel5k": ("Corel5k", "-sparse"), "tmc2007": ("tmc2007-500", "")}
# Instances, features, labels and cardinality as Mulan publishes them.
PUBLISHED = {
    "bibtex": (7395, 1836, 159, 2.402),
    "cal500": (502, 68, 174, 26.044),
    "corel5k": (5000, 499, 374, 3.522),
    "delicious": (16105, 500, 983, 19.020),
    "emotions": (593, 72, 6, 1.869),
    "enron": (1702, 1001, 53, 3.378),
    "flags": (194, 19, 7, 3.392),
    "genbase": (662, 1186, 27, 1.252),
    "medical": (978, 1449, 45, 1.245),
    "scene": (2407, 294, 6, 1.074),
    "tmc2007": (28596, 500, 22, 2.158),
    "yeast": (2417, 103, 14, 4.237),
}


class MulanSettings(Settings):
    """Which set, and how it is split."""

    set: str
    val: float = Field(
        default=0.2, gt=0, lt=1, description="share of the training rows that becomes validation"
    )
    test: float = Field(
        default=0.3, gt=0, lt=1, description="share of all rows, where no test rows are given"
    )
    seed: int = Field(default=0, ge=0, description="which rows, for the splits that are not given")


LIBRARY = "tsoumakas2011mulan"
OF_SET = {
    "bibtex": "katakis2008multilabel",
    "cal500": "turnbull2008semantic",
    "corel5k": "duygulu2002object",
    "delicious": "tsoumakas2008effective",
    "emotions": "trohidis2008multilabel",
    "enron": "klimt2004enron",
    "flags": "goncalves2013genetic",
    "genbase": "diplaris2005protein",
    "medical": "pestian2007shared",
    "scene": "boutell2004learning",
    "tmc2007": "srivastava2005discovering",
    "yeast": "elisseeff2001kernel",
}
"""The paper of each set: from its folder in the authors' repository, or from the literature."""


def citations(settings: MulanSettings) -> dict[str, str]:
    """The library, which offers the set, and the paper that the set is of."""
    papers = [LIBRARY, *([OF_SET[settings.set]] if settings.set in OF_SET else [])]
    return dict.fromkeys(papers, "")


def about(settings: MulanSettings) -> About:
    """What is known of a set; the published counts where they are."""
    published = {}
    if settings.set in PUBLISHED:
        rows, features, labels, cardinality = PUBLISHED[settings.set]
        published = {"rows": rows, "features": features, "labels": labels, "cardinality": cardinality}
    return About(
        title=f"Mulan {settings.set}",
        citation="Tsoumakas et al.: Mulan: A Java Library for Multi-Label Learning. JMLR 12, 2011; and the paper "
        "that Mulan's dataset page names for the set.",
        homepage="https://mulan.sourceforge.net/datasets-mlc.html",
        licence="No licence file with the data; offered for research, cite the authors.",
        by_hand=f"known sets are {', '.join(sorted(PUBLISHED))}; another one needs its .xml and .arff files there",
        published=published,
        published_from="Mulan's table of datasets",
    )


def files(settings: MulanSettings) -> tuple[RawFile, ...]:
    """The XML, the training and test files where they are given, and the whole set otherwise."""
    xml, train, test, whole = _paths(settings.set)
    parts = [train, test] if f"{settings.set}/{train}" in FILES else [whole]
    if settings.set in PUBLISHED:
        return tuple(_pinned(settings.set, path) for path in [xml, *parts])
    return (RawFile(xml), *(RawFile(path, optional=True) for path in (train, test, whole)))


def _paths(name: str) -> tuple[str, str, str, str]:
    stem, tail = STEMS.get(name, (name, ""))
    return f"{stem}.xml", f"{stem}-train{tail}.arff", f"{stem}-test{tail}.arff", f"{stem}.arff"


def _pinned(name: str, path: str) -> RawFile:
    size, sha256 = FILES[f"{name}/{path}"]
    return RawFile(path, (f"{URL}/{name}/{path}",), size, sha256)


def prepare(settings: MulanSettings, raw: RawPaths, writer: DatasetWriter) -> None:
    """Write the given split, the last part of training as validation; or a split of our own."""
    xml, train, test, whole = _paths(settings.set)
    labels = label_list(raw[xml])
    writer.labels(labels)
    if train in raw and test in raw:
        given = ArffFile(raw[train], labels)
        held_out = validation_rows(given.count_rows(), settings.val, settings.seed)
        _write(given, ["val" if chosen else "train" for chosen in held_out], "train", writer)
        other = ArffFile(raw[test], labels)
        given.refuse_other_attributes(other)
        _write(other, ["test"] * other.count_rows(), "test", writer)
        writer.note(
            f"Training and test rows as given; {settings.val:.0%} of training, at random, are validation."
        )
    elif whole in raw:
        table = ArffFile(raw[whole], labels)
        rest = 1 - settings.test
        shares = {"train": rest * (1 - settings.val), "val": rest * settings.val, "test": settings.test}
        _write(table, assign(table.count_rows(), shares, settings.seed), "row", writer)
        writer.note("No split is given: rows are split at random.")
    else:
        raise DataError(f"mulan_{settings.set}: neither {train} with {test} nor {whole} beside {raw[xml]}")


def _write(table: ArffFile, splits: list[str], prefix: str, writer: DatasetWriter) -> None:
    for number, (where, vector, labels) in enumerate(table.rows()):
        writer.split(splits[number]).add(f"{prefix}-{number}", labels, vector, where=where)
    if table.missing:
        writer.warn(f"missing values in {table.path.name}, read as 0", f"{table.missing} cells")
    if table.left_out:
        writer.note(f"Left out as identifiers (many nominal values): {', '.join(table.left_out)}.")
    features = len(table.attributes) - len(writer.label_names)
    if table.width != features:
        writer.note(f"{features} attributes are {table.width} columns (one for each value of a nominal one).")


SOURCE = Source(
    about=about,
    modality="vector",
    settings=MulanSettings,
    files=files,
    folder=lambda settings: f"mulan/{settings.set}",
    members=tuple(sorted(PUBLISHED)),
    prepare=prepare,
)
