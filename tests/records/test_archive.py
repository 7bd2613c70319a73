"""One file from a study's results and back, whole or not at all."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path

import pytest

from mlcl.digests import sealed
from mlcl.errors import MlclError
from mlcl.records.archive import CONTENTS, ArchiveError, pack, unpack
from mlcl.records.collect import collect
from mlcl.records.merge import merge
from mlcl.records.outline import open_study
from mlcl.records.paths import CellId
from mlcl.records.verify import defects
from mlcl.reporting import load_results
from tests.synthetic import Grid

CELL = CellId("scenes", "cnn", "bce", "base", 1)


@pytest.fixture
def packed(grid: Grid) -> Path:
    grid.plan().make_all()
    collect(grid.opened)
    pack(grid.opened, Path("tiny.tar.gz"))
    return Path("tiny.tar.gz")


def members(file: Path) -> list[tuple[tarfile.TarInfo, bytes]]:
    with tarfile.open(file) as archive:
        return [(m, archive.extractfile(m).read()) for m in archive]


def write(file: Path, entries: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    with tarfile.open(file, "w:gz") as archive:
        for member, content in entries:
            archive.addfile(member, io.BytesIO(content))


def named(name: str, content: bytes = b"x", **more) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for key, value in more.items():
        setattr(member, key, value)
    return member, content


def relisted(entries, **files):
    """The same archive whose sealed list of files names these as well."""
    contents = json.loads(entries[0][1])
    contents["files"] |= files
    del contents["seal"]
    return [named(CONTENTS, json.dumps(sealed(contents)).encode()), *entries[1:]]


def test_what_comes_out_is_what_went_in(grid, packed):
    told = unpack(packed, Path("there"))
    assert told.records == len(grid.cells())
    opened = open_study(Path("there"))
    assert list(defects(opened)) == []
    assert load_results(Path("there")).metrics.equals(load_results("tiny").metrics)
    for cell in grid.cells():
        assert (Path("there") / str(cell) / "metrics.json").read_bytes() == grid.paths.record(
            cell
        ).read_bytes()


def test_the_same_results_give_the_same_archive(grid, packed):
    pack(grid.opened, Path("again.tar.gz"))
    assert members(Path("again.tar.gz"))[0][1] == members(packed)[0][1]


def test_unpacked_records_are_merged(grid, packed):
    unpack(packed, Path("there"))
    shutil.rmtree(grid.paths.cell(CELL))
    merged = merge([Path("there")], "tiny")
    assert merged.copied == (CELL,)


def test_unfinished_work_and_damaged_records_stay_behind(grid):
    grid.plan().make_all()
    grid.paths.unfinished(CELL).mkdir()
    (grid.paths.unfinished(CELL) / "checkpoint.pt").write_bytes(b"0")
    (grid.paths.cell(CELL) / "scores.npz").write_bytes(b"0")
    told = pack(grid.opened, Path("tiny.tar.gz"))
    assert told.records == len(grid.cells()) - 1
    assert "scores.npz" in told.left_out[0]
    assert not any("unfinished" in m.name or str(CELL) in m.name for m, _ in members(Path("tiny.tar.gz")))


def test_an_archive_that_is_cut_off_or_changed_gives_nothing(packed):
    whole = packed.read_bytes()
    for content in (
        whole[: len(whole) // 2],
        whole[:-200],
        whole[:5000] + b"0" * 500 + whole[5500:],
        b"",
        b"no archive",
    ):
        packed.write_bytes(content)
        with pytest.raises(ArchiveError, match=r"tiny\.tar\.gz"):
            unpack(packed, Path("there"))
        assert not Path("there").exists()


def test_a_changed_file_is_named(packed):
    entries = members(packed)
    k = next(k for k, (m, _) in enumerate(entries) if m.name.endswith("scores.npz"))
    entries[k] = (entries[k][0], bytes(len(entries[k][1])))
    write(packed, entries)
    with pytest.raises(ArchiveError, match=r"scores\.npz.*is damaged"):
        unpack(packed, Path("there"))
    assert not Path("there").exists()


@pytest.mark.parametrize("name", ["../outside", "/tmp/outside", "a/../../outside", "./metrics.csv", ""])
def test_a_path_outside_is_refused_also_if_it_is_listed(packed, name):
    entries = relisted(members(packed), **{name: {"bytes": 1, "sha256": "0" * 64}})
    write(packed, [*entries, named(name)])
    with pytest.raises(ArchiveError, match="is no path below"):
        unpack(packed, Path("deep/there"))
    assert not Path("outside").exists()
    assert not Path("deep/outside").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_refused(packed, kind):
    entries = relisted(members(packed), link={"bytes": 0, "sha256": "0" * 64})
    write(packed, [*entries, named("link", b"", type=kind, linkname="/etc/passwd")])
    with pytest.raises(ArchiveError, match="is a link or no plain file"):
        unpack(packed, Path("there"))


def test_what_is_not_listed_or_there_twice_is_refused(packed):
    entries = members(packed)
    write(packed, [*entries, named("extra.json")])
    with pytest.raises(ArchiveError, match=r"extra\.json"):
        unpack(packed, Path("there"))
    write(packed, [*entries, entries[-1]])
    with pytest.raises(ArchiveError, match="twice"):
        unpack(packed, Path("there"))


def test_links_are_not_packed(grid):
    grid.plan().make_all()
    scores = grid.paths.cell(CELL) / "scores.npz"
    scores.rename("elsewhere.npz")
    scores.symlink_to(Path("elsewhere.npz").resolve())
    with pytest.raises(MlclError, match="is a link"):
        pack(grid.opened, Path("tiny.tar.gz"))
    assert not Path("tiny.tar.gz").exists()


def test_a_folder_that_is_there_is_left_alone(packed):
    Path("there").mkdir()
    with pytest.raises(ArchiveError, match="is there already"):
        unpack(packed, Path("there"))


def test_nothing_to_pack(grid):
    grid.plan()
    with pytest.raises(MlclError, match="nothing to pack"):
        pack(grid.opened, Path("tiny.tar.gz"))
