"""COCO's instance annotations: which categories each image shows.

Format: cocodataset.org/#format-data; `images`, `annotations` and `categories` in one JSON object.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import IO

from data_prep.errors import DataError
from data_prep.readers.json_stream import array_items


@dataclass
class CocoLabels:
    """What the file says.

    Attributes:
        categories: number -> name; numbers have gaps.
        files: image number -> file name, in the file's order.
        shown: image number -> numbers of the categories in it (crowds count).
    """

    categories: dict[int, str] = field(default_factory=dict)
    files: dict[int, str] = field(default_factory=dict)
    shown: dict[int, set[int]] = field(default_factory=dict)

    def labels(self, image: int) -> list[str]:
        """The category names of an image; none where nothing is annotated."""
        return [self.categories[number] for number in sorted(self.shown.get(image, ()))]


def read_instances(file: IO[bytes], where: str) -> CocoLabels:
    """Read an instances file as a stream.

    Raises DataError for annotations of an image or a category that the file does not list.
    """
    found = CocoLabels()
    try:
        for key, item in array_items(file, where):
            if key == "images":
                found.files[int(item["id"])] = str(item["file_name"])
            elif key == "categories":
                found.categories[int(item["id"])] = str(item["name"])
            elif key == "annotations":
                found.shown.setdefault(int(item["image_id"]), set()).add(int(item["category_id"]))
    except (KeyError, TypeError) as error:
        raise DataError(f"{where}: an entry lacks or misuses {error}") from None
    if not found.files or not found.categories:
        raise DataError(f"{where}: lists no images or no categories")
    for image, numbers in found.shown.items():
        if image not in found.files:
            raise DataError(f"{where}: an annotation is of image {image}, which is not listed")
        if unknown := numbers - found.categories.keys():
            raise DataError(f"{where}: image {image} has category {min(unknown)}, which is not in the list")
    return found
