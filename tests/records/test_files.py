"""Files and folders that are whole or not there, whatever was left behind before."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from mlcl.records.files import atomic_file, atomic_folder, write_json


def test_a_folder_takes_the_place_of_another(tmp_path: Path) -> None:
    place = tmp_path / "model"
    for content in ("first", "second"):
        with atomic_folder(place) as aside:
            (aside / content).touch()
    assert [file.name for file in place.iterdir()] == ["second"]
    assert list(tmp_path.iterdir()) == [place]


def test_what_a_killed_process_of_the_same_number_left_is_not_in_it(tmp_path: Path) -> None:
    for ending in ("", ".old"):
        left = tmp_path / f".model.{os.getpid()}{ending}"
        left.mkdir()
        (left / "half").touch()
    with atomic_folder(tmp_path / "model") as aside:
        (aside / "whole").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "whole"]


@pytest.mark.parametrize("what", ["file", "folder"])
def test_content_is_on_the_disk_before_its_name_and_the_name_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """After a loss of power there is the old content or the new one, not an empty file of the right name."""
    done: list[int | str] = []  # inodes, which a file keeps when it is renamed

    for method in ("rename", "replace"):
        original = getattr(Path, method)

        def moved(self: Path, target: Path, original: Any = original) -> Path:
            done.append("renamed")
            return original(self, target)

        monkeypatch.setattr(Path, method, moved)
    monkeypatch.setattr(os, "fsync", lambda descriptor: done.append(os.fstat(descriptor).st_ino))
    inner, place = [], tmp_path / what
    if what == "file":
        write_json(place, {})
    else:
        with atomic_folder(place) as aside:
            (aside / "weights").touch()
        inner = [(place / "weights").stat().st_ino]
    assert done == [*inner, place.stat().st_ino, "renamed", tmp_path.stat().st_ino]
    done.clear()
    with atomic_file(tmp_path / "request.json", durable=False) as aside:
        aside.touch()
    assert done == ["renamed"]


def test_a_failure_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "model"
    with atomic_folder(place) as aside:
        (aside / "first").touch()
    with pytest.raises(ValueError, match="no"), atomic_folder(place) as aside:
        raise ValueError("no")
    rename = Path.rename

    def fails(self: Path, target: Path) -> Path:
        if self.name == f".model.{os.getpid()}":
            raise OSError("no space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(OSError, match="no space"), atomic_folder(place) as aside:
        (aside / "second").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "first"]
