"""The description of a prepared dataset in Croissant, the vocabulary by which catalogs of datasets find them.

Croissant 1.0 (https://docs.mlcommons.org/croissant/docs/croissant-spec.html) is JSON-LD on schema.org's terms. All of
it comes from the card: what the dataset is, its files with sizes and digests, its splits and labels with their counts.
The arrays are described as files (docs/prepared_format.md), since Croissant's readers cannot open .npy arrays.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

from data_prep import format as form
from mlcl.data.dataset import PreparedDataset

CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
"""As the specification prints it."""
MEANING = {
    form.IDS: "row ids, (N,) unicode",
    form.LABEL_OFFSETS: "(N + 1,) int64; labels of row i: label_ids[offsets[i]:offsets[i + 1]]",
    form.LABEL_IDS: "label numbers of all rows, int32",
    form.UNKNOWN_OFFSETS: "(N + 1,) int64; unknown labels of row i: unknown_ids[offsets[i]:offsets[i + 1]]",
    form.UNKNOWN_IDS: "numbers of the unknown labels of all rows, int32",
    form.IMAGES: "images, (N, H, W, C) uint8",
    form.SIZES: "height and width of each image before it was resized, (N, 2) int32",
    form.TEXTS: "texts, UTF-8, one after the other",
    form.TEXT_OFFSETS: "where each text begins, (N + 1,) int64",
    form.VECTORS: "features, (N, F) float32",
}
"""What each file of a split holds."""
AUTHORS = re.compile(r"(?:.*from: )?([^:.]+(?: et al\.)?): ")
"""Of a citation such as `Demszky et al.: GoEmotions: A Dataset of Fine-Grained Emotions. ACL 2020.`"""


def croissant(dataset: PreparedDataset) -> dict[str, Any]:
    """The description as JSON-LD; names of files are relative to the dataset's folder."""
    card = dataset.card
    prepared = datetime.fromtimestamp((dataset.folder / form.CARD).stat().st_mtime, UTC)
    rows = ", ".join(f"{len(dataset[name])} {name}" for name in card["splits"])
    facts = {
        "url": card["homepage"],
        "license": card["terms"],
        "citeAs": card["citation"],
        "creator": _creator(card["citation"]),
    }
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "name": dataset.name,
        "alternateName": card["title"],
        "description": f"{card['title']}: {dataset.modality}, {dataset.num_labels} labels; rows: {rows}. "
        "Prepared by mlcl.",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "datePublished": prepared.date().isoformat(),
        "identifier": f"sha256:{dataset.content}",
        **{key: value for key, value in facts.items() if value},
        "distribution": [_file(name, entry) for name, entry in card["files"].items()],
        "recordSet": [
            _inline(
                "splits",
                "sc:Text",
                {"name": "sc:Text", "examples": "sc:Integer"},
                [[name, counts["examples"]] for name, counts in card["splits"].items()],
            ),
            _inline(
                "labels",
                "cr:Label",
                {
                    "number": "sc:Integer",
                    "name": "sc:Text",
                    **{f"{name}_examples": "sc:Integer" for name in card["splits"]},
                },
                [
                    [number, label, *(split["label_counts"][label] for split in card["splits"].values())]
                    for number, label in enumerate(dataset.label_names)
                ],
            ),
        ],
    }


def _creator(citation: str) -> dict[str, str] | None:
    authors = AUTHORS.match(citation)
    return {"@type": "Person", "name": authors[1]} if authors else None


def _file(name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    path = PurePosixPath(name)
    described = {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "description": MEANING.get(path.name, ""),
        "contentUrl": name,
        "contentSize": f"{entry['bytes']} B",
        "encodingFormat": "text/plain" if path.name == form.TEXTS else "application/octet-stream",
        "sha256": entry["sha256"],
    }
    return {key: value for key, value in described.items() if value}


def _inline(name: str, kind: str, fields: Mapping[str, str], rows: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """A table that stands in the description itself; the first field identifies a row."""
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "dataType": kind,
        "key": {"@id": f"{name}/{next(iter(fields))}"},
        "field": [
            {"@type": "cr:Field", "@id": f"{name}/{field}", "name": field, "dataType": type_}
            for field, type_ in fields.items()
        ],
        "data": [
            {f"{name}/{field}": value for field, value in zip(fields, row, strict=True)} for row in rows
        ],
    }
