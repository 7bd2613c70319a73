"""`mlcl work`: several processes make one study, each cell once, and what a killed one leaves is made by the others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mlcl.errors import CellTakenError
from mlcl.records.running import Running
from tests.workflow.sandbox import LONG, Sandbox
from tests.workflow.test_worker import CELL, results

Wait = Callable[..., None]
STUDY = "config/default.yaml"


def start(box: Sandbox) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "mlcl", "work", STUDY, "--jobs", "1"],
        cwd=box.folder,
        env=box.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_two_make_each_cell_once_and_snakemake_makes_the_report(finished: Sandbox, fresh: Sandbox) -> None:
    both = [start(fresh), start(fresh)]
    for process in both:
        said = process.communicate(timeout=250)[0]
        assert process.returncode == 0, said
        assert "4 of 4 cells have a current record" in said
    assert results(fresh.folder) == results(finished.folder)
    for record in fresh.records():
        cell = record.parent.relative_to(fresh.folder / "results/default")
        log = (fresh.folder / "results/default/logs" / f"{cell}.log").read_text()
        assert log.count("epoch   1 ") <= 1, f"{cell} was made twice:\n{log}"
    assert fresh.jobs() == {"report": 1, "complete": 1, "all": 1}


@pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere there is no warm worker, whose children end with it"
)
def test_a_killed_one_leaves_its_cell_to_the_others(fresh: Sandbox, wait_until: Wait) -> None:
    fresh.change_study(**LONG)
    first = start(fresh)
    wait_until(lambda: list(fresh.folder.rglob("checkpoints-*/*.pt")), 300)
    first.kill()
    first.communicate(timeout=250)
    wait_until(lambda: not list(fresh.folder.rglob("running.json")))
    assert not fresh.records()
    second = start(fresh)
    log = fresh.folder / "results/default/logs" / f"{CELL}.log"
    wait_until(lambda: "training goes on" in log.read_text(), 300)
    second.send_signal(signal.SIGTERM)
    said = second.communicate(timeout=250)[0]
    assert second.returncode == 128 + signal.SIGTERM, said
    assert "the state is saved" in said


def test_a_run_of_snakemake_in_the_folder_is_not_disturbed(fresh: Sandbox) -> None:
    from mlcl.study.runlock import RunLock

    lock = RunLock(fresh.folder / ".snakemake/mlcl")
    lock.take()
    said = fresh.mlcl("work", STUDY, check=False)
    lock.release()
    assert said.returncode == 2
    assert "another run is at work in this folder" in said.stdout


def test_a_cell_that_another_machine_makes_is_passed_over(tmp_path: Path) -> None:
    mark = tmp_path / "running.json"
    mark.write_text('{"pid": 1, "host": "elsewhere", "since": 0, "job": null}')
    with pytest.raises(CellTakenError, match="elsewhere"), Running(tmp_path, wait=False):
        pass
    long_ago = mark.stat().st_mtime - 3600
    os.utime(mark, (long_ago, long_ago))
    with Running(tmp_path, wait=False):
        assert "elsewhere" not in mark.read_text()
