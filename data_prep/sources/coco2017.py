"""MS-COCO 2017: photographs with 80 categories of objects, read from the official archives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from data_prep.source import About, RawPaths, Source
from data_prep.sources._coco import CocoSettings, prepare_year, raw_files

if TYPE_CHECKING:
    from data_prep.writer import DatasetWriter

ABOUT = About(
    title="MS-COCO 2017",
    citation="Lin et al.: Microsoft COCO: Common Objects in Context. ECCV 2014.",
    homepage="https://cocodataset.org",
    licence="Annotations CC BY 4.0 (COCO consortium); each image under its own licence on Flickr.",
    published={"labels": 80, "train2017": 118287, "val2017": 5000},
    published_from="cocodataset.org/#download",
)
CITATIONS = {"lin2014microsoft": ""}

# Sizes and checksums: tensorflow/datasets, url_checksums/coco2017.txt.
PUBLISHED = {
    "annotations_trainval2017.zip": (
        252907541,
        "113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268",
    ),
    "train2017.zip": (19336861798, "69a8bb58ea5f8f99d24875f21416de2e9ded3178e903f1f7603e283b9e06d929"),
    "val2017.zip": (815585330, "4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05"),
}


def prepare(settings: CocoSettings, raw: RawPaths, writer: DatasetWriter) -> None:
    """Write the splits of the 2017 release."""
    prepare_year(2017, settings, raw, writer)


SOURCE = Source(
    about=ABOUT,
    modality="image",
    settings=CocoSettings,
    files=lambda settings: raw_files(2017, PUBLISHED),
    prepare=prepare,
)
