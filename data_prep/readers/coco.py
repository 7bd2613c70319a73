"""COCO's instance annotations: which categories each image shows.

Format: cocodataset.org/#format-data; `images`, `annotations` and `categories` in one JSON object.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import IO, Any

from data_prep.errors import DataError
from data_prep.readers.json_stream import array_items
from data_prep.readers.labels import defect, normal_form, shown

Number = int | str
"""An id: whole numbers, also when written as a text, are int; other texts stay as they are."""
KEYS = ("images", "categories", "annotations")


@dataclass
class CocoLabels:
    """What the file says.

    Attributes:
        categories: id -> name; numbers have gaps.
        files: image id -> file name, in the file's order, each file once.
        shown: image id -> ids of the categories in it (crowds count).
        warnings: what was put together.
    """

    categories: dict[Number, str] = field(default_factory=dict)
    files: dict[Number, str] = field(default_factory=dict)
    shown: dict[Number, set[Number]] = field(default_factory=dict)
    warnings: list[tuple[str, str]] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """The category names in the order of their ids, each once."""
        numbers = sorted(self.categories, key=lambda number: (isinstance(number, str), number))
        return list(dict.fromkeys(self._name(number) for number in numbers))

    def _name(self, number: Number) -> str:
        """Equal names are equal in the form in which they are stored."""
        return normal_form(self.categories[number])

    def labels(self, image: Number) -> list[str]:
        """The category names of an image; none where nothing is annotated."""
        numbers = sorted(self.shown.get(image, ()), key=lambda number: (isinstance(number, str), number))
        return list(dict.fromkeys(self._name(number) for number in numbers))


def read_instances(file: IO[bytes], where: str) -> CocoLabels:
    """Read an instances file as a stream.

    A file that is listed under several ids is one image with the labels of all of them, categories of one name are
    one label; both are warnings.

    Raises:
        DataError: no images, categories or annotations; an id that stands for two files or names; annotations of an
            image or a category that the file does not list.
    """
    coco = CocoLabels()
    seen = set()
    for key, item in array_items(file, where):
        if key in KEYS:
            seen.add(key)
            if item != []:
                _take(coco, key, item, where)
    if missing := [key for key in KEYS if key not in seen]:
        raise DataError(
            f"{where}: lists no {missing[0]}; expected a COCO instances file with images, annotations and categories"
        )
    if not coco.files or not coco.categories:
        raise DataError(f"{where}: lists no images or no categories")
    for image, numbers in coco.shown.items():
        if image not in coco.files:
            raise DataError(f"{where}: an annotation is of image {image}, which is not listed")
        for number in numbers:
            if number not in coco.categories:
                raise DataError(f"{where}: image {image} has category {number}, which is not in the list")
    _join_equal_files(coco)
    twice = len(coco.categories) - len(coco.names)
    if twice:
        coco.warnings.append(("categories of the same name are one label", f"{twice} in {where}"))
    return coco


def _take(coco: CocoLabels, key: str, item: Any, where: str) -> None:
    if not isinstance(item, dict):
        raise DataError(f"{where}: {key} holds {str(item)[:40]!r}, expected a list of objects")
    if key == "annotations":
        image, category = (_number(item, name, key, where) for name in ("image_id", "category_id"))
        coco.shown.setdefault(image, set()).add(category)
        return
    known, name = (coco.files, "file_name") if key == "images" else (coco.categories, "name")
    number = _number(item, "id", key, where)
    text = item.get(name)
    if not isinstance(text, str) or not text.strip():
        said = (
            f"no {name}" if text is None or text == "" else f"the {name} {str(text)[:40]!r}, which is no text"
        )
        raise DataError(f"{where}: an entry of {key} (id {number}) has {said}")
    if key == "categories" and (reason := defect(text)):
        raise DataError(f"{where}: the category {shown(text)} {reason}")
    if known.setdefault(number, text.strip()) != text.strip():
        raise DataError(f"{where}: {key} gives the id {number} to {known[number]} and to {text.strip()}")


def _number(item: dict[str, Any], name: str, key: str, where: str) -> Number:
    value = item.get(name)
    if isinstance(value, str) and value.strip():
        text = value.strip()
        return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else text
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    said = f"{name} {value!r}, which is no id" if name in item else f"no {name}"
    raise DataError(f"{where}: an entry of {key} has {said}")


def _join_equal_files(coco: CocoLabels) -> None:
    first: dict[str, Number] = {}
    for image, name in list(coco.files.items()):
        first_id = first.setdefault(str(PurePosixPath(name.replace("\\", "/"))), image)
        if first_id == image:
            continue
        coco.warnings.append(("files listed more than once; their labels are put together", name))
        del coco.files[image]
        if labels := coco.shown.pop(image, None):
            coco.shown.setdefault(first_id, set()).update(labels)
