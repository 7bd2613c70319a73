"""Images of one's own: how they are named, what they may be, and labels in COCO and VOC files."""

import io
import json
import os
import struct
import time
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_prep import DataError
from data_prep.readers.image_names import ImageNames
from data_prep.readers.images import decode
from mlcl.data import PreparedDataset
from tests.data.own import SPLITS, kinds_of_warnings, prepare

COLUMNS: dict[str, Any] = {"label_columns": ["cat", "dog"], "size": 8}


def encoded(value: int, kind: str = "PNG", size: tuple[int, int] = (10, 8)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, (value, 0, 0)).save(file, kind)
    return file.getvalue()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """`photos/<n>.png` for twelve numbers, their red value 10 n, and `table.csv`: cat where n is odd, dog else."""
    (tmp_path / "photos").mkdir()
    for number in range(12):
        (tmp_path / "photos" / f"{number}.png").write_bytes(encoded(10 * number))
    name_images(tmp_path, [f"{number}.png" for number in range(12)])
    return tmp_path


def name_images(root: Path, names: list[str]) -> None:
    rows = "".join(f'"{name}",{number % 2},{(number + 1) % 2}\n' for number, name in enumerate(names))
    (root / "table.csv").write_text(f"file,cat,dog\n{rows}", encoding="utf-8")


def shown(dataset: PreparedDataset) -> dict[int, list[str]]:
    """The number of each image -> its labels."""
    return {
        round(int(pixels[0, 0, 0]) / 10): [dataset.label_names[label] for label in np.flatnonzero(labels)]
        for split in SPLITS
        for pixels, labels in zip(dataset[split].images, dataset[split].dense_labels(), strict=True)
    }


EXPECTED = {number: ["cat" if number % 2 else "dog"] for number in range(12)}


# Names


@pytest.mark.parametrize(
    "form",
    [
        "{0}.png",
        "photos/{0}.png",
        "{0}",
        "{0}.jpg",
        "{0}.PNG",
        r"C:\my photos\{0}.png",
        "/home/me/{0}.png",
        "./{0}.png",
    ],
)
def test_images_are_found_by_path_name_or_stem(root: Path, form: str) -> None:
    name_images(root, [form.format(number) for number in range(12)])
    for source in (
        {"source": "images", "table": "table.csv"},
        {"source": "table", "path": "table.csv", "file": "file"},
    ):
        assert shown(prepare(root, **source, folder="photos", **COLUMNS)) == EXPECTED


def test_an_archive_is_as_good_as_a_folder(root: Path) -> None:
    with zipfile.ZipFile(root / "photos.zip", "w") as archive:
        for file in (root / "photos").iterdir():
            archive.write(file, f"upload/{file.name}")
            archive.writestr(f"__MACOSX/upload/._{file.name}", b"x")
        archive.write(root / "table.csv", "upload/table.csv")
    for table in ("table.csv", "photos.zip"):
        assert shown(prepare(root, "images", folder="photos.zip", table=table, **COLUMNS)) == EXPECTED


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("1.png", r"1\.png may be a/1\.png, b/1\.png; name the image by its path"),
        ("1", r"1 may be a/1\.png, b/1\.png"),
        ("c/1.png", r"c/1\.png may be a/1\.png, b/1\.png"),
        ("a/2.png", r"has no image a/2\.png"),  # the folder is there: not the 2.png of another one
        ("../a/1.png", r"\.\./a/1\.png leads out of the folder"),
        ("9.png", r"has no image 9\.png"),
    ],
)
def test_names_that_fit_several_images_or_none(name: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        ImageNames(["a/1.png", "b/1.png", "b/2.png", "notes/9.txt"], "photos").find(name)


@pytest.mark.parametrize(
    "name", ["a/1.png", "a/1.tif", "/data/a/1.jpg", "A/1", r"D:\set\a\1.TIF", "https://x.org/a/1.jpg?b/1"]
)
def test_the_folder_and_the_stem_name_an_image(name: str) -> None:
    """Lists often name the files that were published first, in another format."""
    assert ImageNames(["a/1.png", "b/1.png", "a/b/1.png", "1.png"], "photos").find(name) == "a/1.png"


def test_accents_of_either_form_name_the_same_image() -> None:
    composed, decomposed = "caf\u00e9.png", "cafe\u0301.png"
    assert ImageNames([decomposed], "photos").find(composed) == decomposed
    assert (
        ImageNames([f"Bl\u00e4tter/{composed}"], "photos")
        .find(f"bla\u0308tter/{decomposed}")
        .endswith(composed)
    )
    assert ImageNames([composed, decomposed], "photos").find(composed) == composed


def test_two_names_for_one_image_are_an_error() -> None:
    names = ImageNames(["my photo.jpg"], "photos")
    assert names.find("my%20photo.jpg") == "my photo.jpg"
    with pytest.raises(
        DataError, match=r"my%20photo\.jpg and x/my photo\.png are both taken for my photo\.jpg"
    ):
        names.find("x/my photo.png")


def test_nothing_outside_the_folder_is_read(root: Path) -> None:
    (root / "secret.png").write_bytes(encoded(250))
    (root / "photos" / "link.png").symlink_to(root / "secret.png")
    for name in ("../secret.png", str(root / "secret.png"), "link.png", "photos/../../secret.png"):
        name_images(root, [*(f"{number}.png" for number in range(11)), name])
        for source in (
            {"source": "images", "table": "table.csv"},
            {"source": "table", "path": "table.csv", "file": "file"},
        ):
            with pytest.raises(DataError, match=r"leads out of the folder|has no image"):
                prepare(root, **source, folder="photos", **COLUMNS)


# Content


def flat_png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 100))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an image"),
        (b"<html>404</html>", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image, or of another format than"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
        (encoded(0, "JPEG", (400, 300))[:-900], "cannot be decoded"),
        (flat_png(45000, 45000), "45000 x 45000 pixels are too many"),
    ],
)
def test_what_is_no_image_is_named(content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=rf"place\.png: .*{message}"):
        decode(content, 8, "place.png")


def test_no_other_program_is_started_for_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow hands PostScript to Ghostscript, whatever the file is called."""
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n", encoding="utf-8")
    (tmp_path / "gs").chmod(0o755)
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
    with pytest.raises(DataError):
        decode(eps, 8, "a.png")
    assert not (tmp_path / "started").exists()


def test_all_damaged_images_are_named_together_or_left_out(root: Path) -> None:
    (root / "photos" / "3.png").write_bytes(b"damaged")
    (root / "photos" / "7.png").write_bytes(encoded(70)[:40])
    (root / "photos" / "9.png").unlink()
    settings = {"folder": "photos", "table": "table.csv", **COLUMNS}
    with pytest.raises(DataError, match=r"3 images cannot be read; set on_damaged: skip") as error:
        prepare(root, "images", **settings)
    assert all(f"{number}.png" in str(error.value) for number in (3, 7, 9))
    assert "\n" not in str(error.value)
    left = prepare(root, "images", on_damaged="skip", **settings)
    assert shown(left) == {number: labels for number, labels in EXPECTED.items() if number not in (3, 7, 9)}
    warning = next(entry for entry in left.card["warnings"] if "left out" in entry["kind"])
    assert warning["count"] == 3


# COCO


def coco(**changes: Any) -> dict[str, Any]:
    return {
        "images": [{"id": number, "file_name": f"{number}.png"} for number in range(12)],
        "categories": [{"id": 1, "name": "cat"}, {"id": 7, "name": "dog"}],
        "annotations": [{"image_id": n, "category_id": 1 if n % 2 else 7} for n in range(12)],
        **changes,
    }


def of_coco(root: Path, content: Any, **settings: Any) -> PreparedDataset:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    (root / "coco.json").write_bytes(text)
    return prepare(root, "images", folder="photos", coco="coco.json", size=8, **settings)


def ids(convert: Any) -> dict[str, Any]:
    plain = coco()
    return {
        "images": [{**image, "id": convert(image["id"])} for image in plain["images"]],
        "categories": plain["categories"],
        "annotations": [{**entry, "image_id": convert(entry["image_id"])} for entry in plain["annotations"]],
    }


@pytest.mark.parametrize(
    "content",
    [
        coco(),
        b"\xef\xbb\xbf" + json.dumps(coco()).encode(),
        dict(reversed(coco().items())),
        ids(lambda number: f"image {number}"),
        ids(str),
        ids(float),
        coco(images=[{"id": n, "file_name": f"photos\\{n}.png"} for n in range(12)]),
        coco(images=[*coco()["images"], coco()["images"][3]]),
        coco(images=[{"id": n, "file_name": f"https://x.org/a/{n}.png?size=1/{n % 2}"} for n in range(12)]),
    ],
)
def test_coco_files_as_tools_write_them(root: Path, content: Any) -> None:
    assert shown(of_coco(root, content)) == EXPECTED


def test_a_coco_file_that_lists_an_image_twice_keeps_all_its_labels(root: Path) -> None:
    twice = coco(
        images=[*coco()["images"], {"id": 100, "file_name": "3.png"}],
        annotations=[*coco()["annotations"], {"image_id": 100, "category_id": 7}],
    )
    dataset = of_coco(root, twice)
    assert shown(dataset) == {**EXPECTED, 3: ["cat", "dog"]}
    assert "files listed more than once; their labels are put together" in kinds_of_warnings(dataset)
    dataset = of_coco(root, {**twice, "images": [*coco()["images"], {"id": 100, "file_name": ".\\3.png"}]})
    assert shown(dataset) == {**EXPECTED, 3: ["cat", "dog"]}
    same_name = coco(
        categories=[*coco()["categories"], {"id": 8, "name": " dog "}],
        annotations=[*coco()["annotations"], {"image_id": 3, "category_id": 8}],
    )
    dataset = of_coco(root, same_name)
    assert shown(dataset) == {**EXPECTED, 3: ["cat", "dog"]}
    assert "categories of the same name are one label" in kinds_of_warnings(dataset)


def test_space_between_the_entries_of_a_coco_file_costs_no_time(root: Path) -> None:
    """A few kilobytes of gzip hold a hundred megabytes of blanks."""
    before = time.process_time()
    content = json.dumps(coco()).encode().replace(b'"images": [', b'"images": [' + b" " * 10**8, 1)
    assert shown(of_coco(root, content)) == EXPECTED
    assert time.process_time() - before < 10


def test_a_coco_file_may_lie_in_a_zip(root: Path) -> None:
    with zipfile.ZipFile(root / "export.zip", "w") as archive:
        archive.writestr("annotations/instances_default.json", json.dumps(coco()))
    settings = {"folder": "photos", "coco": "export.zip", "size": 8}
    assert shown(prepare(root, "images", **settings)) == EXPECTED
    with zipfile.ZipFile(root / "export.zip", "a") as archive:
        archive.writestr("annotations/captions.json", "{}")
    with pytest.raises(
        DataError, match=r"export\.zip: must hold one json, holds 2: annotations/captions\.json, "
    ):
        prepare(root, "images", **settings)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            coco(images=[*coco()["images"], {"id": 3, "file_name": "4.png"}]),
            "gives the id 3 to 3.png and to 4.png",
        ),
        (
            coco(categories=[*coco()["categories"], {"id": 7, "name": "cow"}]),
            "gives the id 7 to dog and to cow",
        ),
        (ids(lambda number: number + 0.5), "has id 0.5, which is no id"),
        (
            coco(categories=[{"id": 1, "name": ""}, {"id": 7, "name": "dog"}]),
            r"categories \(id 1\) has no name",
        ),
        ({key: coco()[key] for key in ("images", "annotations")}, "lists no categories"),
        ({key: coco()[key] for key in ("images", "categories")}, "lists no annotations"),
        (coco(annotations=None), "annotations holds 'None'"),
        (coco(annotations=[{"image_id": 3, "caption": "x"}]), "has no category_id"),
        (
            coco(categories=[{"id": 1, "name": "c\nat"}, {"id": 7, "name": "dog"}]),
            r"'c\\nat' holds a line break",
        ),
        (
            coco(categories=[{"id": 1, "name": 1}, {"id": 7, "name": "dog"}]),
            "has the name '1', which is no text",
        ),
        (json.dumps(coco()).encode()[:-1], "the file ends too early"),
        (json.dumps(coco()).encode()[:-1] + b', "annotations": []}', "the key 'annotations' occurs twice"),
        (
            json.dumps(coco()).encode().replace(b'"id"', b'"image_id": 1, "image_id"'),
            "the key 'image_id' occurs twice",
        ),
        (
            json.dumps(coco()).encode().replace(b"cat", b"gr\xf6\xdfe"),
            "not UTF-8 text .* convert the file to UTF-8",
        ),
        (json.dumps(coco()).encode() + b"{}", "after the object there is more"),
        (b"[" * 100_000, "not valid JSON"),
        (b'{"images": ' + b"[" * 100_000, "not valid JSON"),
    ],
)
def test_coco_files_that_contradict_themselves(root: Path, content: Any, message: str) -> None:
    with pytest.raises(DataError, match=rf"coco\.json: .*{message}"):
        of_coco(root, content)


def test_splits_of_coco_and_voc_may_be_given(root: Path) -> None:
    (root / "test.txt").write_text("1\n2.png\n", encoding="utf-8")
    (root / "val.txt").write_text("3\n4\n", encoding="utf-8")
    (root / "xml").mkdir()
    for number in range(12):
        name = EXPECTED[number][0]
        xml = f"<annotation><object><name>{name}</name></object></annotation>"
        (root / "xml" / f"{number}.xml").write_text(xml, encoding="utf-8")
    (root / "coco.json").write_text(json.dumps(coco()), encoding="utf-8")
    for kind in ({"coco": "coco.json"}, {"voc": "xml", "labels": ["cat", "dog"]}):
        listed = prepare(
            root, "images", folder="photos", size=8, test_list="test.txt", val_list="val.txt", **kind
        )
        assert [sorted(listed[split].ids) for split in ("val", "test")] == [
            ["3.png", "4.png"],
            ["1.png", "2.png"],
        ]
        assert shown(listed) == EXPECTED
    with pytest.raises(DataError, match="need test_list beside them"):
        prepare(root, "images", folder="photos", coco="coco.json", val_list="val.txt")
    (root / "val.txt").write_text("1\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"test\.txt:1: 1\.png is in the lists of val and of test"):
        prepare(root, "images", folder="photos", coco="coco.json", test_list="test.txt", val_list="val.txt")


def test_coco_files_of_several_splits(root: Path) -> None:
    (root / "held").mkdir()
    (root / "held" / "0.png").write_bytes(encoded(250))
    test = coco(images=[{"id": 0, "file_name": "0.png"}], annotations=[{"image_id": 0, "category_id": 7}])
    (root / "test.json").write_text(json.dumps(test), encoding="utf-8")
    dataset = of_coco(root, coco(), test_coco="test.json", test_folder="held")
    assert [len(dataset[split]) for split in SPLITS] == [11, 1, 1]
    assert dataset["test"].images[0, 0, 0, 0] == 250
    test["categories"] = [{"id": 7, "name": "dog"}]
    (root / "test.json").write_text(json.dumps(test), encoding="utf-8")
    with pytest.raises(
        DataError, match=r"test\.json: its categories differ .*: 'cat' is in one of them only"
    ):
        of_coco(root, coco(), test_coco="test.json", test_folder="held")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"coco": "coco.json", "split": "part"}, "'split' has no effect: the labels are in a COCO json"),
        ({"coco": "coco.json", "labels": ["cat"]}, "'labels' has no effect"),
        ({"coco": "coco.json", "difficult": True}, "'difficult' has no effect"),
        ({"voc": "photos", "label_list": "x"}, "'label_list' has no effect: the labels are in VOC files"),
        ({"voc": "photos", "id": "x"}, "'id' has no effect"),
        ({"table": "table.csv", "label_columns": ["cat"], "test_list": "x"}, "'test_list' has no effect"),
        ({"coco": "coco.json", "val_coco": "coco.json"}, "need test_coco beside them"),
    ],
)
def test_settings_of_other_kinds_of_labels_are_errors(
    root: Path, settings: dict[str, Any], message: str
) -> None:
    (root / "coco.json").write_text(json.dumps(coco()), encoding="utf-8")
    with pytest.raises(DataError, match=message):
        prepare(root, "images", folder="photos", **settings)


# VOC


def voc(body: str) -> bytes:
    return f"<annotation>{body}</annotation>".encode()


CAT = "<object><name>cat</name></object>"


@pytest.mark.parametrize(
    ("xml", "labels"),
    [
        (voc(""), []),
        (voc(CAT.replace("cat", " cat ")), ["cat"]),
        (voc(CAT.replace("</name>", "</name><difficult/>")), ["cat"]),
        (voc(CAT.replace("</name>", "</name><difficult>False</difficult>")), ["cat"]),
        (voc(CAT.replace("</name>", "</name><difficult>Unspecified</difficult>")), ["cat"]),
        (voc(CAT.replace("</name>", "</name><difficult>True</difficult>")), []),
        (voc(CAT.replace("</name>", "</name><difficult> 1 </difficult>")), []),
        (voc(CAT).replace(b"<annotation>", b'<annotation xmlns="http://x.y/z">'), ["cat"]),
        (b'<?xml version="1.0" encoding="gb2312"?>' + voc(CAT).replace(b"cat", "猫".encode("gb2312")), ["猫"]),
        (f'<?xml version="1.0" encoding="utf-16"?><annotation>{CAT}</annotation>'.encode("utf-16"), ["cat"]),
        (b"\xef\xbb\xbf" + voc(CAT), ["cat"]),
        (voc(CAT).upper().replace(b"CAT", b"cat"), ["cat"]),
        (voc("<Object><Name>cat</Name><Difficult>0</Difficult></Object>"), ["cat"]),
    ],
)  # fmt: skip
def test_voc_files_as_tools_write_them(xml: bytes, labels: list[str]) -> None:
    from data_prep.readers.voc import object_classes

    assert object_classes(xml, "3.xml", difficult=False) == labels


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        (voc("<object><bndbox/></object>"), "an object has no name"),
        (voc(CAT.replace("cat", " ")), "an object has no name"),
        (
            voc(CAT.replace("</name>", "</name><name>dog</name>")),
            "an object has several elements <name>: cat, dog",
        ),
        (voc(CAT.replace("cat", "salt & pepper")), "not valid XML"),
        (voc(CAT.replace("</name>", "</name><difficult>maybe</difficult>")), "difficult is 'maybe'"),
        (b'<?xml version="1.0" encoding="klingon"?><annotation/>', "not valid XML"),
        (b"<html/>", "is no VOC annotation: its element is <html>"),
        (b"", "not valid XML"),
        (b"\xff\xfe\x00", "not valid XML"),
    ],
)
def test_voc_files_that_cannot_be_read(xml: bytes, message: str) -> None:
    from data_prep.readers.voc import object_classes

    with pytest.raises(DataError, match=rf"3\.xml: {message}"):
        object_classes(xml, "3.xml", difficult=False)


def test_annotations_without_an_image_are_counted(root: Path) -> None:
    (root / "xml").mkdir()
    for number in range(13):
        (root / "xml" / f"{number}.xml").write_bytes(voc(CAT))
    dataset = prepare(root, "images", folder="photos", voc="xml", size=8)
    assert "annotations without an image are left out" in kinds_of_warnings(dataset)


def test_voc_files_may_be_called_after_the_whole_name_of_the_image(root: Path) -> None:
    (root / "xml").mkdir()
    for number in range(12):
        name = f"{number}.png.xml" if number % 2 else f"{number}.xml"
        (root / "xml" / name).write_bytes(voc(CAT if number % 2 else CAT.replace("cat", "dog")))
    assert shown(prepare(root, "images", folder="photos", voc="xml", size=8)) == EXPECTED
    for path in (root / "xml").iterdir():
        path.rename(path.with_name(f"z{path.name}"))
    with pytest.raises(
        DataError, match=r"no annotation in voc: xml has the path or the name of an image in photos"
    ):
        prepare(root, "images", folder="photos", voc="xml", size=8)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_pipes_and_devices_are_no_raw_files(root: Path) -> None:
    os.mkfifo(root / "pipe.csv")
    for path in ("pipe.csv", "/dev/zero"):
        with pytest.raises(DataError, match="is neither a file nor a folder"):
            prepare(root, "table", path=path, text="text", label_list="tags")
