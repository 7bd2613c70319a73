"""Pascal VOC's annotations: which classes the objects of an image belong to."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from data_prep.errors import DataError

DECLARATION = re.compile(rb"""^\s*<\?xml[^>]{0,200}?encoding\s*=\s*["']([A-Za-z0-9._-]+)["'][^>]{0,200}\?>""")
NOT_DIFFICULT = {"", "0", "false", "no", "unspecified"}
DIFFICULT = {"1", "true", "yes"}


def object_classes(xml: bytes, where: str, difficult: bool) -> list[str]:
    """Class names of the annotated objects, each once; objects marked difficult only where `difficult`.

    Raises DataError for what is no annotation, for an object without a name, and for an unknown mark.
    """
    root = _root(xml, where)
    if _tag(root) != "annotation":
        raise DataError(
            f"{where}: is no VOC annotation: its element is <{_tag(root)}>, expected <annotation>"
        )
    names = set()
    for item in root.iter():
        if _tag(item) != "object":
            continue
        name = _text(item, "name", where)
        if not name:
            raise DataError(f"{where}: an object has no name")
        mark = (_text(item, "difficult", where) or "").lower()
        if mark not in NOT_DIFFICULT | DIFFICULT:
            raise DataError(f"{where}: difficult is {mark!r}, expected 0 or 1")
        if difficult or mark in NOT_DIFFICULT:
            names.add(name)
    return sorted(names)


def _root(xml: bytes, where: str) -> ElementTree.Element:
    """The document's element. Expat knows few encodings: those it may not know are decoded before."""
    try:
        declared = DECLARATION.match(xml)
        if declared and not declared[1].lower().startswith(b"utf"):
            return ElementTree.fromstring(xml[declared.end() :].decode(declared[1].decode()))
        return ElementTree.fromstring(xml)
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise DataError(f"{where}: not valid XML ({error})") from None
    except RecursionError:
        raise DataError(f"{where}: not valid XML (nested too deeply)") from None


def _tag(element: ElementTree.Element) -> str:
    """The name in lower case, without its namespace."""
    return str(element.tag).rpartition("}")[2].lower()


def _text(item: ElementTree.Element, name: str, where: str) -> str | None:
    """The text of a child; None where there is none. Raises DataError where several differ."""
    texts = {(child.text or "").strip() for child in item if _tag(child) == name}
    if len(texts) > 1:
        raise DataError(f"{where}: an object has several elements <{name}>: {', '.join(sorted(texts))}")
    return texts.pop() if texts else None
