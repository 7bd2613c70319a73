"""Pascal VOC's annotations: which classes the objects of an image belong to."""

from __future__ import annotations

from xml.etree import ElementTree

from data_prep.errors import DataError


def object_classes(xml: bytes, where: str, difficult: bool) -> list[str]:
    """Class names of the annotated objects, each once; objects marked difficult only where `difficult`."""
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError as error:
        raise DataError(f"{where}: not valid XML ({error})") from None
    names = set()
    for item in root.iter("object"):
        name = item.findtext("name")
        if name is None:
            raise DataError(f"{where}: an object has no name")
        if difficult or (item.findtext("difficult") or "0").strip() == "0":
            names.add(name.strip())
    return sorted(names)
