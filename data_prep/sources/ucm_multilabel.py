"""UC Merced land use with several labels: 2100 aerial images, 17 labels.

Images: UCMerced_LandUse.zip, UCMerced_LandUse/Images/<class>/<class>NN.tif. Labels of Chaudhuri et al.:
LandUse_Multilabeled.txt, tab-separated, header `IMAGE\\LABEL` and the labels, then image name and 0 or 1 for each.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from data_prep.errors import DataError
from data_prep.readers.archives import Archive, open_archive, read_member
from data_prep.readers.images import ImageSettings, Picture, add_pictures
from data_prep.readers.lines import lines
from data_prep.readers.splits import assign
from data_prep.source import About, RawFile, RawPaths, Source

if TYPE_CHECKING:
    from data_prep.writer import DatasetWriter

ABOUT = About(
    title="UC Merced (multi-label)",
    citation="Yang and Newsam: Bag-of-Visual-Words and Spatial Extensions for Land-Use Classification. ACM GIS 2010; "
    "labels: Chaudhuri et al.: Multilabel Remote Sensing Image Retrieval. IEEE TGRS 56, 2018.",
    homepage="https://bigearth.eu/datasets.html",
    licence="USGS National Map images, public domain; labels for research, cite the paper.",
    by_hand="take LandUse_Multilabeled.txt out of the multilabels.zip that the homepage links to; images: "
    "UCMerced_LandUse.zip of weegee.vision.ucmerced.edu/datasets/landuse.html",
    published={"labels": 17, "rows": 2100},
    published_from="the papers",
)

# Size and checksum: tensorflow/datasets, url_checksums/uc_merced.txt.
IMAGES = RawFile(
    "UCMerced_LandUse.zip",
    ("http://weegee.vision.ucmerced.edu/datasets/UCMerced_LandUse.zip",),
    332468434,
    "06c539ef28703a58fb07bd2837991ac7c48b813b00bb12ac197efd813a18daeb",
)
LABELS = RawFile("LandUse_Multilabeled.txt")


class UcmSettings(ImageSettings):
    """Size of the images and shares of the splits; none is given."""

    val: float = Field(default=0.1, gt=0, lt=1, description="share of validation images")
    test: float = Field(default=0.2, gt=0, lt=1, description="share of test images")
    seed: int = Field(default=0, ge=0, description="which images")


def prepare(settings: UcmSettings, raw: RawPaths, writer: DatasetWriter) -> None:
    """Write a random split."""
    names, rows = _labels(raw[LABELS.path])
    writer.labels(names)
    writer.note("No split is given: images are split at random.")
    shares = {"train": 1 - settings.val - settings.test, "val": settings.val, "test": settings.test}
    splits = assign(len(rows), shares, settings.seed)
    with open_archive(raw[IMAGES.path]) as archive:
        add_pictures(writer, _pictures(archive, rows, splits), settings.size)


def _labels(path: Path) -> tuple[list[str], dict[str, list[str]]]:
    """The label names, and image name -> its labels."""
    table = ((where, line.split("\t")) for where, line in lines(path) if line.strip())
    where, header = next(table, ("", [""]))
    if not header[0].upper().startswith("IMAGE") or len(header) < 2:
        raise DataError(f"{path}:1: expected the header IMAGE\\LABEL and the label names, tab-separated")
    names = [name.strip() for name in header[1:]]
    found: dict[str, list[str]] = {}
    for where, (image, *cells) in table:
        if len(cells) != len(names) or not {cell.strip() for cell in cells} <= {"0", "1"}:
            raise DataError(f"{where}: expected {len(names)} cells of 0 or 1")
        if image.strip() in found:
            raise DataError(f"{where}: image {image} occurs twice")
        found[image.strip()] = [name for name, cell in zip(names, cells, strict=True) if cell.strip() == "1"]
    return names, found


def _pictures(archive: Archive, rows: dict[str, list[str]], splits: list[str]) -> Iterator[Picture]:
    files = {Path(name).stem: name for name in archive.names() if name.endswith(".tif")}
    for (image, labels), split in zip(rows.items(), splits, strict=True):
        if image not in files:
            raise DataError(f"{archive.path}: has no image {image}.tif")
        yield Picture(
            split, image, labels, read_member(archive, files[image]), f"{archive.path}:{files[image]}"
        )


SOURCE = Source(
    about=ABOUT,
    modality="image",
    settings=UcmSettings,
    files=lambda settings: (IMAGES, LABELS),
    prepare=prepare,
)
