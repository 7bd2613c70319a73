"""Small raw files of one's own, of every kind."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from PIL import Image

ROWS = 14


def image(number: int, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    pixels = np.full((6, 7, 3), 15 * number, dtype=np.uint8)
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def lines(row: Callable[[int], str]) -> bytes:
    return "".join(f"{row(number)}\n" for number in range(ROWS)).encode()


def json_lines(row: Callable[[int], Any]) -> bytes:
    return lines(lambda number: json.dumps(row(number)))


def _parquet() -> bytes:
    import pyarrow
    import pyarrow.parquet

    file = io.BytesIO()
    rows = [{"text": f"row {number}", "tags": ["a", "b"][: 1 + number % 2]} for number in range(ROWS)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    return file.getvalue()


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def zipped(files: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


def tarred(files: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def gzipped(content: bytes) -> bytes:
    import gzip

    return gzip.compress(content)


IMAGES = {f"photos/{number}.png": image(number) for number in range(ROWS)}
PHOTOS = b"file,cat,dog\n" + lines(lambda n: f"{n}.png,{n % 2},{(n + 1) % 2}")
COCO = {
    "images": [{"id": number, "file_name": f"{number}.png"} for number in range(ROWS)],
    "categories": [{"id": 1, "name": "cat"}, {"id": 7, "name": "dog"}],
    "annotations": [{"image_id": number, "category_id": 1 + 6 * (number % 2)} for number in range(ROWS)],
}
OBJECT = "<object><name>{}</name><difficult>0</difficult></object>"
VOC = {
    f"xml/{number}.xml": f"<annotation>{OBJECT.format('ab'[number % 2])}</annotation>"
    for number in range(ROWS)
}
TABLE = {"text": "text", "label_list": "tags"}
PICTURED = {"folder": "photos", "size": 8}
CSV = b'text,tags,x\n"a ""quoted"", row",a,0\n' + lines(
    lambda n: f"row {n},{'a,b'[:: 1 + n % 2]!r},{n}".replace("'", '"')
)
SVM = lines(lambda n: f"{n % 3},{3 + n % 2} 0:1 {1 + n % 4}:0.5")
ARFF = (
    b"@relation r\n@attribute 'x y' numeric\n@attribute c {red,'dark blue',green}\n@attribute l {0,1}\n@data\n"
    + lines(lambda n: f"{n},{['red', chr(39) + 'dark blue' + chr(39), 'green'][n % 3]},{n % 2}")
    + b"{0 3, 2 1}\n"
)
FEATURES = b"x,y,l\n" + lines(lambda n: f"{n},{n}.5,{n % 2}")
UNKNOWN = {"on_missing_label": "ignore"}
NAMED = {**PICTURED, "table": "t.csv", "label_columns": ["cat", "dog"]}
XML = b'<labels xmlns="http://mulan.sourceforge.net/labels"><label name="l"></label></labels>'

# Kind -> the source, its settings, its files, and which of these is damaged.
KINDS: dict[str, tuple[str, dict[str, Any], dict[str, bytes], str]] = {
    "csv": ("table", {"path": "t.csv", **TABLE}, {"t.csv": CSV}, "t.csv"),
    "csv columns": (
        "table",
        {"path": "t.csv", "text": "file", "label_columns": ["cat"]},
        {"t.csv": PHOTOS},
        "t.csv",
    ),
    "tsv": ("table", {"path": "t.tsv", **TABLE}, {"t.tsv": b"text\ttags\n" + lines(lambda n: f"r {n}\ta")}, "t.tsv"),
    "csv.gz": ("table", {"path": "t.csv.gz", **TABLE}, {"t.csv.gz": gzipped(CSV)}, "t.csv.gz"),
    "csv in zip": ("table", {"path": "t.zip", **TABLE}, {"t.zip": zipped({"t.csv": CSV})}, "t.zip"),
    "jsonl": (
        "table",
        {"path": "t.jsonl", **TABLE},
        {"t.jsonl": json_lines(lambda n: {"text": f"é {n}", "tags": ["a", "b"][: 1 + n % 2]})},
        "t.jsonl",
    ),
    "jsonl vectors": (
        "table",
        {"path": "t.jsonl", **TABLE, "labels": ["a", "b"]},
        {"t.jsonl": json_lines(lambda n: {"text": f"{n}", "tags": [float(n % 2), 1.0]})},
        "t.jsonl",
    ),
    "parquet": ("table", {"path": "t.parquet", **TABLE}, {"t.parquet": _parquet()}, "t.parquet"),
    "features": ("vectors", {"path": "t.csv", "label_columns": ["l"]}, {"t.csv": FEATURES}, "t.csv"),
    "npy": (
        "vectors",
        {"path": "x.npy", "labels_path": "y.npy"},
        {"x.npy": _npy(np.arange(28.0).reshape(14, 2)), "y.npy": _npy(np.ones((14, 1), dtype=np.uint8))},
        "x.npy",
    ),
    "npy of labels, some unknown": (
        "vectors",
        {"path": "x.npy", "labels_path": "y.npy", **UNKNOWN},
        {
            "x.npy": _npy(np.arange(28.0).reshape(14, 2)),
            "y.npy": _npy(np.array([1, 0, np.nan, 1] * 7).reshape(14, 2)),
        },
        "y.npy",
    ),
    "features, some labels unknown": (
        "vectors",
        {"path": "t.csv", "label_columns": ["l"], **UNKNOWN},
        {"t.csv": FEATURES.replace(b"3,3.5,1", b"3,3.5,")},
        "t.csv",
    ),
    "arff, some labels unknown": (
        "arff",
        {"path": "t.arff", "labels": ["l"], **UNKNOWN},
        {"t.arff": ARFF.replace(b"3,red,1", b"3,red,?")},
        "t.arff",
    ),
    "svmlight": ("svmlight", {"path": "t.svm"}, {"t.svm": SVM}, "t.svm"),
    "svmlight with a first line": ("svmlight", {"path": "t.svm"}, {"t.svm": b"14 6 5\n" + SVM}, "t.svm"),
    "label names": ("svmlight", {"path": "t.svm", "label_names": "n"}, {"t.svm": SVM, "n": b"a\nb\nc\nd\ne\n"}, "n"),
    "arff": ("arff", {"path": "t.arff", "labels": ["l"]}, {"t.arff": ARFF}, "t.arff"),
    "mulan xml": ("arff", {"path": "t.arff", "xml": "l.xml"}, {"t.arff": ARFF, "l.xml": XML}, "l.xml"),
    "png": ("images", NAMED, {**IMAGES, "t.csv": PHOTOS}, "photos/3.png"),
    "jpeg": (
        "images",
        NAMED,
        {**IMAGES, "t.csv": PHOTOS, "photos/3.png": image(3, "JPEG")},
        "photos/3.png",
    ),
    "tiff": (
        "images",
        NAMED,
        {**IMAGES, "t.csv": PHOTOS, "photos/3.png": image(3, "TIFF")},
        "photos/3.png",
    ),
    "gif": (
        "images",
        NAMED,
        {**IMAGES, "t.csv": PHOTOS, "photos/3.png": image(3, "GIF")},
        "photos/3.png",
    ),
    "webp": (
        "images",
        NAMED,
        {**IMAGES, "t.csv": PHOTOS, "photos/3.png": image(3, "WEBP")},
        "photos/3.png",
    ),
    "table of images": (
        "table",
        {**PICTURED, "path": "t.csv", "file": "file", "label_columns": ["cat", "dog"]},
        {**IMAGES, "t.csv": PHOTOS},
        "t.csv",
    ),
    "coco": ("images", {**PICTURED, "coco": "c.json"}, {**IMAGES, "c.json": json.dumps(COCO).encode()}, "c.json"),
    "voc": (
        "images",
        {**PICTURED, "voc": "xml"},
        {**IMAGES, **{name: xml.encode() for name, xml in VOC.items()}},
        "xml/3.xml",
    ),
    "zip of images": (
        "images",
        {"folder": "p.zip", "size": 8, "table": "t.csv", "label_columns": ["cat", "dog"]},
        {"p.zip": zipped(IMAGES), "t.csv": PHOTOS},
        "p.zip",
    ),
    "tar of images": (
        "images",
        {"folder": "p.tgz", "size": 8, "table": "t.csv", "label_columns": ["cat", "dog"]},
        {"p.tgz": tarred(IMAGES), "t.csv": PHOTOS},
        "p.tgz",
    ),
    "list of splits": (
        "images",
        {**PICTURED, "coco": "c.json", "test_list": "l.txt"},
        {**IMAGES, "c.json": json.dumps(COCO).encode(), "l.txt": b"1.png\n2\nphotos/3.png\n"},
        "l.txt",
    ),
}  # fmt: skip
