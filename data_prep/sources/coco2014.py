"""MS-COCO 2014: photographs with 80 categories of objects, read from the official archives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from data_prep.source import About, RawPaths, Source
from data_prep.sources._coco import CocoSettings, prepare_year, raw_files

if TYPE_CHECKING:
    from data_prep.writer import DatasetWriter

ABOUT = About(
    title="MS-COCO 2014",
    citation="Lin et al.: Microsoft COCO: Common Objects in Context. ECCV 2014.",
    homepage="https://cocodataset.org",
    licence="Annotations CC BY 4.0 (COCO consortium); each image under its own licence on Flickr.",
    published={"labels": 80, "train2014": 82783, "val2014": 40504},
    published_from="cocodataset.org/#download",
)
CITATIONS = {"lin2014microsoft": ""}

# Sizes and checksums: tensorflow/datasets, url_checksums/coco2014.txt.
PUBLISHED = {
    "annotations_trainval2014.zip": (
        252872794,
        "031296bbc80c45a1d1f76bf9a90ead27e94e99ec629208449507a4917a3bf009",
    ),
    "train2014.zip": (13510573713, "ede4087e640bddba550e090eae701092534b554b42b05ac33f0300b984b31775"),
    "val2014.zip": (6645013297, "fe9be816052049c34717e077d9e34aa60814a55679f804cd043e3cbee3b9fde0"),
}


def prepare(settings: CocoSettings, raw: RawPaths, writer: DatasetWriter) -> None:
    """Write the splits of the 2014 release."""
    prepare_year(2014, settings, raw, writer)


SOURCE = Source(
    about=ABOUT,
    modality="image",
    settings=CocoSettings,
    files=lambda settings: raw_files(2014, PUBLISHED),
    prepare=prepare,
)
