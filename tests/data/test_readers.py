"""Readers of file formats: what they read, and how they complain."""

import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep import DataError
from data_prep.readers.archives import members, open_archive, read_member
from data_prep.readers.arff import ArffFile, label_list
from data_prep.readers.coco import read_instances
from data_prep.readers.images import decode
from data_prep.readers.json_stream import array_items
from data_prep.readers.splits import assign
from data_prep.readers.voc import object_classes

HEADER = """% a comment
@RELATION 'a set'
@attribute size numeric
@attribute 'the colour' {red, green,'light blue'}
@attribute flag {YES,NO}
@attribute m\\'usica {0,1}
@attribute rare {0,1}

@data
"""
LABELS = ["m'usica", "rare"]


def arff(tmp_path: Path, rows: str, header: str = HEADER) -> ArffFile:
    path = tmp_path / "set.arff"
    path.write_text(header + rows, encoding="utf-8")
    return ArffFile(path, LABELS)


def test_arff_rows_dense_and_sparse(tmp_path: Path) -> None:
    table = arff(tmp_path, "1.5,'light blue',NO,1,0\n\n{0 2,2 NO,4 1}\n{}\n?,green,YES,0,1\n")
    rows = [(vector.tolist(), labels) for _, vector, labels in table.rows()]
    assert rows == [
        ([1.5, 0, 0, 1, 0], ["m'usica"]),
        ([2, 1, 0, 0, 0], ["rare"]),
        ([0, 1, 0, 0, 1], []),  # what a sparse row leaves out is 0 or the first nominal value
        ([0, 0, 1, 0, 1], ["rare"]),
    ]
    assert table.missing == 1
    assert table.count_rows() == 4
    assert next(iter(table.rows()))[0].endswith("set.arff:10")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("1,red,YES,1\n", r"set\.arff:10: 4 cells for 5 attributes"),
        ("x,red,YES,1,0\n", r"set\.arff:10: 'x' is not a finite number \(attribute size\)"),
        ("1,rde,YES,1,0\n", r"'rde' is not a value of attribute the colour: did you mean red"),
        ("1,red,YES,2,0\n", r"label m'usica is '2', expected 0 or 1"),
        ("{9 1}\n", r"'9 1' is not an attribute number"),
    ],
)
def test_arff_errors_name_the_row(tmp_path: Path, rows: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list(arff(tmp_path, rows).rows())


@pytest.mark.parametrize(
    ("values", "cells", "numbers"),
    [
        ("M,F", "MF", [0, 1]),  # F alone would be "no"
        ("YES,NO", ["yes", "NO"], [1, 0]),
        ("0,1", "01", [0, 1]),
        ("y,n", "yn", [1, 0]),
        ("t,x", "tx", [0, 1]),
    ],
)
def test_two_values_of_an_arff_attribute_stay_apart(
    tmp_path: Path, values: str, cells: list[str], numbers: list[int]
) -> None:
    header = f"@attribute sex {{{values}}}\n@attribute m\\'usica {{0,1}}\n@attribute rare {{0,1}}\n@data\n"
    rows = arff(tmp_path, "".join(f"{cell},1,0\n" for cell in cells), header).rows()
    assert [vector.tolist() for _, vector, _ in rows] == [[number] for number in numbers]


def test_arff_headers_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="label 'rare' is not among the attributes"):
        arff(tmp_path, "", HEADER.replace("rare", "other"))
    with pytest.raises(DataError, match="has no @data line"):
        arff(tmp_path, "", HEADER.replace("@data", ""))
    with pytest.raises(DataError, match="attribute type 'string' is not supported"):
        arff(tmp_path, "", HEADER.replace("size numeric", "size string"))


def test_the_label_list_of_mulan(tmp_path: Path) -> None:
    xml = tmp_path / "set.xml"
    xml.write_text(
        '<labels xmlns="http://x"><label name="a"><label name="b\\\'c"/></label></labels>', encoding="utf-8"
    )
    assert label_list(xml) == ["a", "b'c"]
    xml.write_text("<labels></labels>", encoding="utf-8")
    with pytest.raises(DataError, match="lists no labels"):
        label_list(xml)
    xml.write_text("<labels>", encoding="utf-8")
    with pytest.raises(DataError, match="cannot be read as XML"):
        label_list(xml)


def picture(size: tuple[int, int] = (8, 6), kind: str = "JPEG", mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(file, kind)
    return file.getvalue()


def test_images_are_decoded_to_one_size() -> None:
    for kind, mode in (("JPEG", "L"), ("PNG", "RGBA"), ("PNG", "P"), ("JPEG", "CMYK"), ("TIFF", "RGB")):
        pixels, size = decode(picture(kind=kind, mode=mode), 16, "x")
        assert pixels.shape == (16, 16, 3)
        assert pixels.dtype == np.uint8
        assert size == (6, 8)


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("kind", "mode"), [("JPEG", "RGB"), ("JPEG", "L"), ("PNG", "L"), ("PNG", "P"), ("PNG", "RGBA")]
)
def test_usual_images_are_decoded_as_ever(kind: str, mode: str) -> None:
    """Prepared datasets stay the same to the byte; an opaque alpha changes nothing."""
    encoded = picture((50, 40), kind, mode)
    expected = Image.open(io.BytesIO(encoded)).convert("RGB").resize((16, 16), Image.Resampling.BILINEAR)
    assert np.array_equal(decode(encoded, 16, "x")[0], np.asarray(expected))


@pytest.mark.parametrize(
    ("kind", "mode", "dtype"),
    [("PNG", "I;16", "<u2"), ("TIFF", "I;16", "<u2"), ("TIFF", "I;16B", ">u2"), ("TIFF", "I", "<i4")],
)
def test_grey_of_16_bits_is_scaled(kind: str, mode: str, dtype: str) -> None:
    pixels = (np.arange(256, dtype=np.int64).reshape(16, 16) * 257).astype(dtype)
    encoded = saved(Image.frombytes(mode, (16, 16), pixels.tobytes()), kind)
    assert decode(encoded, 16, "x")[0][..., 1].tolist() == np.arange(256).reshape(16, 16).tolist()


@pytest.mark.parametrize(
    "pixels", [np.full((4, 4), 0.5, np.float32), np.full((4, 4), 70000, np.int32), -np.eye(4)]
)
def test_pixels_of_unknown_range_are_refused(pixels: np.ndarray) -> None:
    values = pixels if pixels.dtype == np.float32 else pixels.astype(np.int32)
    with pytest.raises(DataError, match=r"a\.tif: the range .* convert the images to 8 bits"):
        decode(saved(Image.fromarray(values), "TIFF"), 16, "a.tif")


def test_transparent_pixels_are_white() -> None:
    clear = Image.new("RGBA", (4, 4), (200, 0, 0, 0))
    half = Image.new("LA", (4, 4), (0, 128))
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 9, 9, 9])
    for encoded, value in (
        (saved(clear), 255),
        (saved(half), 127),
        (saved(palette, transparency=1), 255),
        (saved(Image.new("L", (4, 4), 7), transparency=7), 255),
    ):
        assert (decode(encoded, 8, "x")[0] == value).all()


@pytest.mark.parametrize(("kind", "turned"), [("JPEG", 6), ("PNG", 6), ("TIFF", 6), ("JPEG", 1), ("JPEG", 9)])
def test_images_are_turned_as_the_camera_was(kind: str, turned: int) -> None:
    """Orientation 6: the first row of the file is the right side of the picture."""
    image = Image.new("L", (32, 16), 0)
    image.paste(255, (0, 0, 32, 8))
    exif = Image.Exif()
    exif[274] = turned
    pixels, size = decode(saved(image, kind, exif=exif), 16, "x")
    side = pixels[8, 12] if turned == 6 else pixels[4, 8]
    other = pixels[8, 4] if turned == 6 else pixels[12, 8]
    assert (side.min(), other.max()) == (255, 0)
    assert size == ((32, 16) if turned == 6 else (16, 32))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_damaged_exif_block_does_not_matter() -> None:
    for block in (b"Exif\0\0nonsense", b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01", b"Exif\0\0"):
        assert decode(saved(Image.new("L", (8, 8), 9), "JPEG", exif=block), 8, "x")[0].max() == 9


def test_images_that_are_damaged_are_named() -> None:
    whole = picture((64, 64))
    with pytest.raises(DataError, match=r"a\.jpg: the image cannot be decoded .*truncated"):
        decode(whole[: len(whole) // 2], 16, "a.jpg")
    with pytest.raises(DataError, match=r"a\.jpg: not an image"):
        decode(b"GIF? no", 16, "a.jpg")


def make_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def make_tar(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def test_archives_of_all_kinds_read_alike(tmp_path: Path) -> None:
    files = {"a/1.txt": b"one", "a/2.jpg": b"two"}
    folder = tmp_path / "folder" / "a"
    folder.mkdir(parents=True)
    for name, content in files.items():
        (tmp_path / "folder" / name).write_bytes(content)
    made = [
        make_zip(tmp_path / "x.zip", files),
        make_tar(tmp_path / "x.tar", files),
        make_tar(tmp_path / "x.tar.gz", files, "w:gz"),
        tmp_path / "folder",
    ]
    for path in made:
        with open_archive(path) as archive:
            assert archive.names() == list(files)
            assert read_member(archive, "a/2.jpg") == b"two"
            with pytest.raises(DataError, match=r"has no member a/3\.jpg"):
                read_member(archive, "a/3.jpg")
        assert list(members(path, ".txt")) == [("a/1.txt", b"one")]


def test_links_devices_and_giants_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as file:
        for name, kind in (("link", tarfile.SYMTYPE), ("hard", tarfile.LNKTYPE), ("device", tarfile.CHRTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            file.addfile(info)
    with open_archive(path) as archive:
        for name in archive.names():
            with pytest.raises(DataError, match="link or device"):
                read_member(archive, name)
    big = make_zip(tmp_path / "big.zip", {"big": bytes(1000)})
    with open_archive(big) as archive, pytest.raises(DataError, match="member big is larger than 999 bytes"):
        read_member(archive, "big", limit=999)
    info = zipfile.ZipInfo("link")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as file:
        file.writestr(info, "/etc/passwd")
    with open_archive(tmp_path / "link.zip") as archive, pytest.raises(DataError, match="not a regular file"):
        read_member(archive, "link")


def test_a_folder_is_not_left_through_its_names(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "secret").write_bytes(b"x")
    (tmp_path / "inside" / "link").symlink_to(tmp_path / "secret")
    with open_archive(tmp_path / "inside") as archive:
        for name in ("../secret", "link"):
            with pytest.raises(DataError, match="leads out of the folder"):
                read_member(archive, name)


def test_damaged_archives_are_named(tmp_path: Path) -> None:
    cut = make_tar(tmp_path / "x.tar.gz", {"a": np.random.default_rng(0).bytes(5000)}, "w:gz")
    cut.write_bytes(cut.read_bytes()[:2000])
    with pytest.raises(DataError, match=r"x\.tar\.gz: .*fetch it again"):
        list(members(cut))
    (tmp_path / "none.zip").write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"none\.zip: cannot be read as an archive"):
        list(members(tmp_path / "none.zip"))
    broken = make_zip(tmp_path / "x.zip", {"a": b"x" * 1000})
    broken.write_bytes(broken.read_bytes().replace(b"xxxx", b"yxxx"))
    with pytest.raises(DataError, match="member a is damaged"):
        list(members(broken))


def test_large_json_is_read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    content = {
        "info": {"a": [1, 2]},
        "images": [{"id": n, "name": "é" * n, "x": [1, {"y": "]"}]} for n in range(50)],
        "none": [],
        "last": 12345,
    }
    for block in (1, 7, 1000):
        monkeypatch.setattr("data_prep.readers.json_stream.BLOCK", block)
        for text in (json.dumps(content), json.dumps(content, indent=2, ensure_ascii=False)):
            items = list(array_items(io.BytesIO(text.encode()), "file"))
            assert [item for key, item in items if key == "images"] == content["images"]
            assert items[0] == ("info", content["info"])
            assert items[-1] == ("last", 12345)
    for broken in ("[1]", '{"a": [1, 2', '{"a": [1 2]}', "", '{"a" 1}'):
        with pytest.raises(DataError, match="file: not valid JSON"):
            list(array_items(io.BytesIO(broken.encode()), "file"))


def test_coco_annotations_must_fit_together() -> None:
    content = {
        "images": [{"id": 5, "file_name": "5.jpg"}, {"id": 6, "file_name": "6.jpg"}],
        "annotations": [{"image_id": 5, "category_id": 90}, {"image_id": 5, "category_id": 90}],
        "categories": [{"id": 1, "name": "person"}, {"id": 90, "name": "toothbrush"}],
    }

    def read(**changes: object) -> object:
        return read_instances(io.BytesIO(json.dumps({**content, **changes}).encode()), "file")

    found = read()
    assert found.labels(5) == ["toothbrush"]
    assert found.labels(6) == []
    with pytest.raises(DataError, match="an annotation is of image 7"):
        read(annotations=[{"image_id": 7, "category_id": 1}])
    with pytest.raises(DataError, match="image 5 has category 2, which is not in the list"):
        read(annotations=[{"image_id": 5, "category_id": 2}])
    with pytest.raises(DataError, match="an entry of annotations has no category_id"):
        read(annotations=[{"image_id": 5}])
    with pytest.raises(DataError, match="lists no images"):
        read(images=[])


def test_voc_objects() -> None:
    dog = b"<object><name>dog</name><difficult>1</difficult></object>"
    xml = b"<annotation>" + dog + b"<object><name>cat</name></object></annotation>"
    assert object_classes(xml, "x", difficult=False) == ["cat"]
    assert object_classes(xml, "x", difficult=True) == ["cat", "dog"]
    with pytest.raises(DataError, match="x: not valid XML"):
        object_classes(xml[:-5], "x", difficult=True)


def test_our_own_splits_are_fixed_and_have_their_shares() -> None:
    splits = assign(100, {"train": 0.7, "val": 0.1, "test": 0.2}, seed=0)
    assert [splits.count(name) for name in ("train", "val", "test")] == [70, 10, 20]
    assert splits == assign(100, {"train": 0.7, "val": 0.1, "test": 0.2}, seed=0)
    assert splits != assign(100, {"train": 0.7, "val": 0.1, "test": 0.2}, seed=1)
    with pytest.raises(DataError, match="split 'val' would be empty"):
        assign(4, {"train": 0.9, "val": 0.1}, seed=0)
