"""Raw files that once ended in a traceback, a hang or a wrong dataset."""

from __future__ import annotations

import gzip
import time
from pathlib import Path

import pytest

from tests.faults.cases import ALL, Case
from tests.faults.raw_files import ARFF, KINDS


@pytest.mark.parametrize("kind", ALL)
def test_undamaged_files_are_prepared(kind: str, quick_disk: Path) -> None:
    case = Case(quick_disk, kind)
    assert case.attempt(case.undamaged) is None


ONCE_FAILED = [
    ("csv", b'text,tags\n"open,a\n' + b"row,b\n" * 20, "quotation mark"),
    ("csv.gz", KINDS["csv.gz"][2]["t.csv.gz"][:-9], "cannot be read"),
    ("csv.gz", b"\x1f\x8b\x08\x00" + b"\xff" * 40, "cannot be read"),
    ("jsonl", b'{"text": "a", "tags": ' + b"[" * 200_000 + b"\n", "not valid JSON"),
    ("jsonl", b'{"text": ["a"], "tags": "a"}\n' * 14, "holds a list, not a text"),
    ("coco", b'{"images": [{"id": 1, "file_name": "1.png"}]}{}', "after the object there is more"),
    ("svmlight", b"300000000 0:1\n" * 14, "too large"),
    ("svmlight", b"1 0:1e999\n" * 14, "no finite number"),
    ("arff", ARFF.replace(b"0,red,", b"0,'red,", 1), "quotation mark"),
    ("voc", b'<?xml version="1.0" encoding="big5"?><annotation><object/></annotation>', "has no name"),
    ("npy", b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f8', 'shape': (2,", "npy"),
    (
        "adp",
        b"\x93NUMPY\x01\x00\x76\x00{'descr': '<i8', 'fortran_order': False, 'shape': (8,".ljust(128),
        "row numbers",
    ),
    ("tar of images", b"\x1f\x8b not a gzip", "cannot be read as an archive"),
    (
        "npy",
        b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999, 2), }",
        "npy",
    ),
]


@pytest.mark.parametrize(("kind", "content", "message"), ONCE_FAILED)
def test_files_that_once_failed_are_refused_in_one_line(
    kind: str, content: bytes, message: str, quick_disk: Path
) -> None:
    error = Case(quick_disk / kind, kind).attempt(content)
    assert error is not None
    assert message in error


def test_readers_take_time_in_proportion_to_the_file(quick_disk: Path) -> None:
    """A quadratic reader takes minutes for these."""
    many = 60_000
    hostile = {
        "arff": b"@attribute l {0,1}\n@attribute x numeric\n@data\n" + b"'," * many + b"\n",
        "csv": b"text,tags\n" + b'"",' * many,
        "jsonl": b'{"text": "a", "tags": "[' + b"'," * many + b'"}\n',
        "coco": b'{"images": [' + b'{"id": 1, "file_name": "' + b"a" * (4 << 20),
    }
    for kind, content in hostile.items():
        start = time.monotonic()
        assert Case(quick_disk / kind, kind).attempt(content) is not None
        assert time.monotonic() - start < 10, kind


def test_sgml_without_end_tags_is_read_in_one_pass() -> None:
    from data_prep.readers.markup import elements, without_tags

    start = time.monotonic()
    assert list(elements("<REUTERS " * 100_000, "REUTERS")) == []
    assert list(elements("<REUTERS>" * 100_000, "REUTERS")) == []
    without_tags("<" * 30_000)
    assert time.monotonic() - start < 10
    assert list(elements('x<D a="1">one</D><D>two</D><DD>three</DD>', "D")) == [
        (' a="1"', "one"),
        ("", "two"),
    ]


def test_a_gzip_of_one_endless_line_is_refused(quick_disk: Path) -> None:
    bomb = quick_disk / "bomb.gz"
    with gzip.open(bomb, "wb", compresslevel=1) as file:
        for _ in range(80):
            file.write(b"a" * (1 << 20))
    error = Case(quick_disk, "csv.gz").attempt(bomb.read_bytes())
    assert error is not None
    assert "the line is longer than" in error
