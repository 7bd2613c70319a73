"""UC Merced land use with several labels: 2100 aerial images, 17 labels.

Images: UCMerced_LandUse.zip, UCMerced_LandUse/Images/<class>/<class>NN.tif (or another format of the same stem:
the set is also published as JPEG). Labels of Chaudhuri et al.:
LandUse_Multilabeled.txt, tab-separated, header `IMAGE\\LABEL` and the labels, then image name and 0 or 1 for each.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from pydantic import Field

from data_prep.errors import DataError
from data_prep.readers.archives import Archive, open_archive, read_member
from data_prep.readers.image_names import ImageNames
from data_prep.readers.images import ImageSettings, Picture, add_pictures
from data_prep.readers.lines import decoded_lines, lines
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
    by_hand="put the multilabels.zip that the homepage links to here (or its LandUse_Multilabeled.txt); images: "
    "UCMerced_LandUse.zip of weegee.vision.ucmerced.edu/datasets/landuse.html",
    published={"labels": 17, "rows": 2100},
    published_from="the papers",
)
CITATIONS = {"yang2010bagofvisualwords": "images", "chaudhuri2018multilabel": "labels"}

# Size and checksum: tensorflow/datasets, url_checksums/uc_merced.txt.
IMAGES = RawFile(
    "UCMerced_LandUse.zip",
    ("http://weegee.vision.ucmerced.edu/datasets/UCMerced_LandUse.zip",),
    332468434,
    "06c539ef28703a58fb07bd2837991ac7c48b813b00bb12ac197efd813a18daeb",
)
LABELS = RawFile("LandUse_Multilabeled.txt", optional=True)
ZIPPED_LABELS = RawFile("multilabels.zip", optional=True)


class UcmSettings(ImageSettings):
    """Size of the images and shares of the splits; none is given."""

    val: float = Field(default=0.1, gt=0, lt=1, description="share of validation images")
    test: float = Field(default=0.2, gt=0, lt=1, description="share of test images")
    seed: int = Field(default=0, ge=0, description="which images")


def prepare(settings: UcmSettings, raw: RawPaths, writer: DatasetWriter) -> None:
    """Write a random split."""
    names, rows = _labels(raw)
    writer.labels(names)
    writer.note("No split is given: images are split at random.")
    shares = {"train": 1 - settings.val - settings.test, "val": settings.val, "test": settings.test}
    splits = assign(len(rows), shares, settings.seed)
    with open_archive(raw[IMAGES.path]) as archive:
        add_pictures(writer, _pictures(archive, rows, splits), settings.size)


def _labels(raw: RawPaths) -> tuple[list[str], dict[str, list[str]]]:
    """The label names, and image name -> its labels."""
    table = ((where, line.split("\t")) for where, line in _lines(raw) if line.strip())
    where, header = next(table, (LABELS.path, [""]))
    if not header[0].upper().startswith("IMAGE") or len(header) < 2:
        raise DataError(f"{where}: expected the header IMAGE\\LABEL and the label names, tab-separated")
    names = [name.strip() for name in header[1:]]
    found: dict[str, list[str]] = {}
    for where, (image, *cells) in table:
        if len(cells) != len(names) or not {cell.strip() for cell in cells} <= {"0", "1"}:
            raise DataError(f"{where}: expected {len(names)} cells of 0 or 1")
        if image.strip() in found:
            raise DataError(f"{where}: image {image} occurs twice")
        found[image.strip()] = [name for name, cell in zip(names, cells, strict=True) if cell.strip() == "1"]
    return names, found


def _lines(raw: RawPaths) -> Iterator[tuple[str, str]]:
    """The lines of the list of labels, as it is or in its zip."""
    if LABELS.path in raw:
        yield from lines(raw[LABELS.path])
        return
    if ZIPPED_LABELS.path not in raw:
        raise DataError(
            f"ucm_multilabel: neither {LABELS.path} nor {ZIPPED_LABELS.path} is there; {ABOUT.by_hand}"
        )
    with open_archive(raw[ZIPPED_LABELS.path]) as archive:
        name = next(
            (name for name in archive.names() if PurePosixPath(name).name == LABELS.path), LABELS.path
        )
        yield from decoded_lines(archive.open(name), f"{archive.path}:{name}")


def _pictures(archive: Archive, rows: dict[str, list[str]], splits: list[str]) -> Iterator[Picture]:
    names = ImageNames(archive.names(), str(archive.path))
    for (image, labels), split in zip(rows.items(), splits, strict=True):
        file = names.find(image)
        yield Picture(split, image, labels, read_member(archive, file), f"{archive.path}:{file}")


SOURCE = Source(
    about=ABOUT,
    modality="image",
    settings=UcmSettings,
    files=lambda settings: (IMAGES, LABELS, ZIPPED_LABELS),
    prepare=prepare,
)
