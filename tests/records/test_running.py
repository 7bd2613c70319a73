"""The mark of the process that makes a cell: another machine's keeps others out, one left behind by a dead machine
does not."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mlcl.records import running
from mlcl.records.running import RUNNING, STALE, Running, job_of, running_since

SINCE = 1_000.0


def leave(folder: Path, age: float = 0.0, **owner: object) -> Path:
    """A mark as another process leaves it, last renewed `age` seconds ago."""
    mark = folder / RUNNING
    mark.write_text(json.dumps({"pid": 1, "host": "other", "since": SINCE, "job": None} | owner))
    now = time.time()
    os.utime(mark, (now - age, now - age))
    return mark


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "LOOK_AGAIN", 0.02)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)


def test_the_mark_says_who_works_and_goes_with_the_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    with Running(tmp_path):
        since, job = running_since(tmp_path), job_of(tmp_path)
    assert since == pytest.approx(time.time(), abs=60)
    assert job == "77"
    assert running_since(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_a_mark_is_renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "HEARTBEAT", 0.02)
    with Running(tmp_path):
        mark = tmp_path / RUNNING
        os.utime(mark, (SINCE, SINCE))
        end = time.monotonic() + 10
        while mark.stat().st_mtime == SINCE:
            assert time.monotonic() < end
            time.sleep(0.01)


def test_of_a_machine_that_died_nothing_runs_for_ever(tmp_path: Path) -> None:
    leave(tmp_path, age=STALE - 60)
    assert running_since(tmp_path) == SINCE
    leave(tmp_path, age=STALE + 60)
    assert running_since(tmp_path) is None
    assert job_of(tmp_path) is None


def test_of_a_process_of_this_machine_that_died_nothing_runs(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as ended:
        pass
    leave(tmp_path, host=socket.gethostname(), pid=ended.pid)
    assert running_since(tmp_path) is None


def test_a_cell_that_another_machine_makes_is_waited_for(tmp_path: Path) -> None:
    mark = leave(tmp_path)
    entered = threading.Event()

    def work() -> None:
        with Running(tmp_path):
            entered.set()

    worker = threading.Thread(target=work)
    worker.start()
    assert not entered.wait(0.3)
    mark.unlink()
    assert entered.wait(10)
    worker.join()


@pytest.mark.parametrize(
    ("age", "owner"),
    [
        pytest.param(STALE + 60, {}, id="dead machine"),
        pytest.param(0.0, {"host": socket.gethostname()}, id="left over on this machine"),
        pytest.param(0.0, {"job": "77"}, id="this job, requeued"),
    ],
)
def test_a_mark_that_was_left_behind_is_replaced_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, age: float, owner: dict[str, object]
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    leave(tmp_path, age, **owner)
    with Running(tmp_path):
        assert json.loads((tmp_path / RUNNING).read_text())["pid"] == os.getpid()


def test_the_mark_of_the_machine_that_took_over_is_left_alone(tmp_path: Path) -> None:
    with Running(tmp_path):
        (tmp_path / RUNNING).unlink()
        leave(tmp_path)
    assert running_since(tmp_path) == SINCE


MACHINE = """
import os, socket, sys, time
from pathlib import Path
socket.gethostname = lambda: sys.argv[2]
from mlcl.records import running
running.LOOK_AGAIN = 0.01
for _ in range(10):
    with running.Running(Path(sys.argv[1])):
        inside = Path(sys.argv[1]) / "inside"
        os.close(os.open(inside, os.O_CREAT | os.O_EXCL))  # fails if another machine is inside, too
        time.sleep(0.005)
        inside.unlink()
"""


def test_machines_whose_file_locks_do_not_reach_each_other_take_turns(tmp_path: Path) -> None:
    leave(tmp_path, age=STALE + 60)
    machines = [
        subprocess.Popen([sys.executable, "-c", MACHINE, str(tmp_path), f"host{i}"], stderr=subprocess.PIPE)
        for i in range(3)
    ]
    failures = [error for machine in machines if (error := machine.communicate(timeout=60)[1])]
    assert failures == []
