"""A new record takes the place of the old one as a whole, whenever the process is killed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from mlcl.errors import RecordError
from mlcl.records.paths import CellId
from mlcl.records.record import (
    Record,
    RecordSlot,
    find_record,
    read_record,
    read_record_if_present,
    write_record,
)

RESULT = {"status": "ok", "reason": None, "metrics": {"test": {"map": 0.5}}}


def record(fingerprint: str) -> Record:
    return Record(RESULT | {"fingerprint": fingerprint}, {"attempt": 1, "wall_seconds": 1.0})


@pytest.fixture
def cell(tmp_path: Path) -> Path:
    """A cell's folder with a record `old`, whose scores say so, and embeddings, which the new one has not."""
    folder = tmp_path / "seed0"
    folder.mkdir()
    (folder / "scores.npz").write_text("old")
    (folder / "embeddings.npz").write_text("old")
    write_record(folder / "metrics.json", record("old"))
    return folder


def slot_with_new(cell: Path) -> RecordSlot:
    """A new record, whole, aside."""
    slot = RecordSlot(cell, cell / "unfinished")
    slot.clear()
    (slot.new / "scores.npz").write_text("new")
    (slot.new / "model").mkdir()
    (slot.new / "model" / "weights").write_text("new")
    write_record(slot.new / "metrics.json", record("new"))
    return slot


def is_new(cell: Path) -> bool:
    files = {path.name for path in cell.iterdir()} - {"unfinished"}
    return (
        read_record(cell / "metrics.json").fingerprint == "new"
        and (cell / "scores.npz").read_text() == "new"
        and files == {"metrics.json", "scores.npz", "model"}
    )


def test_the_new_record_replaces_all_of_the_old_one(cell: Path) -> None:
    slot = slot_with_new(cell)
    assert read_record(cell / "metrics.json").fingerprint == "old", "it stays until the new one is whole"
    slot.replace()
    assert is_new(cell)
    assert list((cell / "unfinished").iterdir()) == []


@pytest.mark.parametrize("kill_at", range(6))
def test_killed_at_any_step_it_is_recovered_and_never_mixed(
    cell: Path, monkeypatch: pytest.MonkeyPatch, kill_at: int
) -> None:
    slot = slot_with_new(cell)
    rename, calls = Path.rename, []

    def killed(self: Path, target: Path) -> Path:
        calls.append(self)
        if len(calls) > kill_at:
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            slot.replace()
    present = read_record_if_present(cell / "metrics.json")
    if present is not None:
        assert (cell / "scores.npz").read_text() == present.fingerprint
    RecordSlot(cell, cell / "unfinished").recover("new", 1)
    assert is_new(cell)


def test_a_whole_new_record_of_other_settings_does_not_replace_the_old_one(cell: Path) -> None:
    slot_with_new(cell).recover("old", 1)
    assert read_record(cell / "metrics.json").fingerprint == "old"
    assert (cell / "scores.npz").read_text() == "old"


def test_half_a_new_record_is_no_record(cell: Path) -> None:
    slot = slot_with_new(cell)
    (slot.new / "metrics.json").unlink()
    slot.recover("new", 1)
    assert read_record(cell / "metrics.json").fingerprint == "old"
    shutil.rmtree(cell / "unfinished")


@pytest.mark.parametrize(
    ("number", "message"), [(3, "format 3.*update mlcl"), (None, "no format number.*the cell is made again")]
)
def test_a_record_of_another_format_says_what_to_do(cell: Path, number: int | None, message: str) -> None:
    file = cell / "metrics.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": number}))
    with pytest.raises(RecordError, match=message):
        read_record(file)


@pytest.mark.parametrize("name", ["metrics.json", "scores.npz", "embeddings.npz"])
@pytest.mark.parametrize("how", ["cut", "flipped", "emptied", "gone"])
def test_a_damaged_record_is_named_and_counts_as_missing(cell: Path, name: str, how: str) -> None:
    file = cell / name
    content = bytearray(file.read_bytes())
    if how == "gone":
        file.unlink()
    else:
        content[len(content) // 2] ^= 1
        file.write_bytes({"cut": content[:-3], "flipped": content, "emptied": b""}[how])
    record, damage = find_record(cell / "metrics.json")
    assert record is None
    if (name, how) != ("metrics.json", "gone"):
        assert damage is not None
        assert str(file) in damage


def test_a_record_of_another_cell_is_no_record_of_this_one(cell: Path) -> None:
    other = Record(RESULT | {"fingerprint": "f", "id": "d/e/l/base/seed1"}, {"attempt": 1})
    write_record(cell / "metrics.json", other)
    assert find_record(cell / "metrics.json", CellId("d", "e", "l", "base", 1)).record is not None
    with pytest.raises(RecordError, match="the record of another cell"):
        read_record(cell / "metrics.json", CellId("d", "e", "l", "base", 0))


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ({}, "no metrics"),
        ({"test": {"map": 1.266}}, "map is 1.266"),
        ({"test": {"map": None}}, "map is None"),
    ],
)
def test_a_record_that_no_training_gives_is_none(cell: Path, metrics: dict, message: str) -> None:
    write_record(
        cell / "metrics.json", Record(RESULT | {"metrics": metrics, "fingerprint": "f"}, {"attempt": 1})
    )
    with pytest.raises(RecordError, match=message):
        read_record(cell / "metrics.json")
