"""Seals, and files that are hashed once on a machine."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mlcl import digests
from mlcl.digests import SMALL, first_defect, has_digest, hashing_all, is_sealed, sealed, sha256_of

LONG_AGO = 10**18


@pytest.fixture
def hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are hashed, on a machine that has noted nothing yet and waits for no file to settle."""
    found: list[Path] = []

    def counted(file: Path) -> str:
        found.append(file)
        return sha256_of(file)

    monkeypatch.setenv("MLCL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(digests, "sha256_of", counted)
    monkeypatch.setattr(digests, "SETTLED_NS", -LONG_AGO)
    return found


def test_a_large_file_is_hashed_once_on_a_machine(tmp_path: Path, hashed: list[Path]) -> None:
    file = tmp_path / "large"
    file.write_bytes(bytes(2 * SMALL))
    digest = sha256_of(file)
    for _ in range(3):
        assert has_digest(file, digest)
    assert hashed == [file]
    notes = tmp_path / "cache" / "whole_files"
    assert len(notes.read_text().split()) == 1, "for other processes"
    with hashing_all():
        assert has_digest(file, digest)
    assert hashed == [file, file]


def test_a_changed_file_is_found_though_its_size_and_time_are_as_before(
    tmp_path: Path, hashed: list[Path]
) -> None:
    file = tmp_path / "large"
    file.write_bytes(bytes(2 * SMALL))
    digest, before = sha256_of(file), file.stat()
    assert has_digest(file, digest)
    with file.open("r+b") as content:
        content.seek(SMALL)
        content.write(b"\1")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not has_digest(file, digest)
    assert not has_digest(file, digest), "what does not fit is not noted"


@pytest.mark.usefixtures("hashed")
def test_a_damaged_file_of_notes_does_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "large"
    file.write_bytes(bytes(2 * SMALL))
    assert has_digest(file, sha256_of(file))
    notes = (tmp_path / "cache" / "whole_files").read_bytes()
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "whole_files").write_bytes(b"\xff" + notes[1:])
    monkeypatch.setenv("MLCL_CACHE", str(tmp_path / "damaged"))
    assert has_digest(file, sha256_of(file))
    assert not has_digest(file, "0" * 64)


def test_defects_begin_with_the_file(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("a")
    whole = {"there": sha256_of(tmp_path / "there")}
    assert first_defect(tmp_path, whole) is None
    assert first_defect(tmp_path, whole | {"gone": ""}) == f"{tmp_path / 'gone'}: is missing"
    (tmp_path / "there").write_text("b")
    assert str(first_defect(tmp_path, whole)).startswith(f"{tmp_path / 'there'}: is not what was written")


@pytest.mark.parametrize(
    "content", [{}, {"a": 1.0, "ö": [None, {"b": (1, 2)}], "\udc80": "x"}, {"a": {1: "b"}}]
)
def test_a_seal_survives_the_file_and_no_change(content: dict) -> None:
    stored = json.loads(json.dumps(sealed(content)))
    assert is_sealed(stored)
    assert not is_sealed({**stored, "a": 2})
    assert not is_sealed({**stored, "more": 2})
    assert not is_sealed({**stored, "seal": ""})
    assert not is_sealed(content)
    assert not is_sealed(None)
