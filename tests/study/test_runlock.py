"""Who may work in a folder: one run at a time, `mlcl work` beside a run of another study, and no host for another."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from mlcl.errors import MlclError
from mlcl.study.runlock import RunLock


@pytest.fixture
def locks(tmp_path: Path) -> Path:
    """Snakemake's folder of lock files, with one in it."""
    folder = tmp_path / "locks"
    folder.mkdir()
    (folder / "0.output.lock").write_text("results/default/complete.txt\n")
    return folder


def owner(folder: Path, **changes: object) -> dict[str, object]:
    """What the owner's file says; with changes, once they are made."""
    file = folder / "owner.json"
    content = (json.loads(file.read_text()) if file.exists() else {}) | changes
    folder.mkdir(exist_ok=True)
    file.write_text(json.dumps(content))
    return content


def test_what_a_dead_run_of_this_host_left_is_removed(tmp_path: Path, locks: Path) -> None:
    assert RunLock(tmp_path, "a").try_take(locks)
    assert not list(locks.iterdir())
    assert owner(tmp_path) == {"pid": os.getpid(), "host": socket.gethostname(), "study": "a"}


def test_another_hosts_locks_stay_its_own_until_a_run_starts_here(tmp_path: Path, locks: Path) -> None:
    """Where file locks do not reach that host, its run may be alive: Snakemake's lock files then refuse this one."""
    owner(tmp_path, pid=1, host="elsewhere", study="a")
    for _ in range(2):
        lock = RunLock(tmp_path, "a")
        assert lock.try_take(locks)
        assert list(locks.iterdir())
        lock.take()
        lock.release()
        assert owner(tmp_path)["host"] == "elsewhere"
    RunLock(tmp_path, "a").take(run_starts=True)
    assert owner(tmp_path)["host"] == socket.gethostname()


def test_a_second_run_is_told_of_the_first(tmp_path: Path, locks: Path) -> None:
    first = RunLock(tmp_path, "a")
    first.take(run_starts=True)
    message = (
        rf"at work in this folder \(study a, process {os.getpid()} on {socket.gethostname()}\); wait for it"
    )
    for study in ("a", "b"):
        second = RunLock(tmp_path, study)
        assert not second.try_take(locks)
        with pytest.raises(MlclError, match=message):
            second.take(run_starts=True)
    first.release()
    second.take(run_starts=True)
    assert owner(tmp_path)["study"] == "b"


def test_work_goes_on_beside_a_run_of_another_study_only(tmp_path: Path) -> None:
    RunLock(tmp_path, "a").take_beside_others()
    first = RunLock(tmp_path, "a")
    first.take(run_starts=True)
    RunLock(tmp_path, "b").take_beside_others()
    with pytest.raises(MlclError, match="study a"):
        RunLock(tmp_path, "a").take_beside_others()
    assert owner(tmp_path)["study"] == "a"
    owner(tmp_path, study=None)  # an older version's, which did not say
    with pytest.raises(MlclError, match="at work in this folder"):
        RunLock(tmp_path, "b").take_beside_others()
