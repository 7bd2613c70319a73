"""Images of the user's own, read from a folder or archive by the names that labels give them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from data_prep.errors import DataError
from data_prep.readers.archives import Archive, read_member
from data_prep.readers.image_names import ImageNames
from data_prep.readers.images import Picture


@dataclass(frozen=True)
class NamedImage:
    """An image as the labels name it; `where` is the place that does."""

    split: str
    row_id: str
    labels: Iterable[str]
    name: str
    where: str


def pictures(archive: Archive, images: Iterable[NamedImage]) -> Iterator[Picture]:
    """The encoded images. One that is not there is a picture with a problem, so that all are reported together."""
    names = ImageNames(archive.names(), str(archive.path))
    for image in images:
        encoded, problem, where = b"", "", f"{archive.path}:{image.name}"
        try:
            member = names.find(image.name)
            where = f"{archive.path}:{member}"
            encoded = read_member(archive, member)
        except DataError as error:
            problem = f"{image.where}: {error}" if image.where else str(error)
        yield Picture(image.split, image.row_id, image.labels, encoded, where, problem)
