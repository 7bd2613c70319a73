"""`mlcl work`: several processes make one study, each cell once, and what a killed one leaves is made by the others."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mlcl.errors import CellTakenError
from mlcl.records.running import Running
from tests.hosts import two_hosts
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

    lock = RunLock(fresh.folder / ".snakemake/mlcl", "default")
    lock.take(run_starts=True)
    said = fresh.mlcl("work", STUDY, check=False)
    lock.release()
    assert said.returncode == 2
    assert "another run is at work in this folder (study default, " in said.stdout


def test_a_study_is_made_beside_a_run_of_another_one(box: Sandbox) -> None:
    from mlcl.study.runlock import RunLock

    lock = RunLock(box.folder / ".snakemake/mlcl", "other")
    lock.take(run_starts=True)
    box.records()[0].unlink()
    said = box.mlcl("work", STUDY)
    assert "4 of 4 cells have a current record" in said.stdout
    assert len(box.records()) == 4
    lock.release()


def test_a_cell_that_another_machine_makes_is_passed_over(tmp_path: Path) -> None:
    mark = tmp_path / "running.json"
    mark.write_text('{"pid": 1, "host": "elsewhere", "since": 0, "job": null}')
    with pytest.raises(CellTakenError, match="elsewhere"), Running(tmp_path, wait=False):
        pass
    long_ago = mark.stat().st_mtime - 3600
    os.utime(mark, (long_ago, long_ago))
    with Running(tmp_path, wait=False):
        assert "elsewhere" not in mark.read_text()


@pytest.mark.slow
def test_two_hosts_whose_file_locks_do_not_reach_each_other_make_each_cell_once(fresh: Sandbox) -> None:
    """Each has bookkeeping of its own, where the file locks of cells lie: only the marks of running cells, in the
    folder of results, keep the two apart."""
    bookkeeping = fresh.folder / ".snakemake"
    bookkeeping.mkdir()
    with two_hosts() as hosts:
        command = [sys.executable, "-m", "mlcl", "work", STUDY, "--jobs", "1"]
        both = [host.start(command, fresh.folder, fresh.environment, own=bookkeeping) for host in hosts]
        for process in both:
            said = process.communicate(timeout=500)[0]
            assert process.returncode == 0, said
            assert "4 of 4 cells have a current record" in said
    assert not list(bookkeeping.iterdir())
    made_on = {json.loads(record.read_text())["run"]["host"] for record in fresh.records()}
    assert made_on == {host.name for host in hosts}
    for log in (fresh.folder / "results/default/logs").rglob("seed*.log"):
        assert log.read_text().count("epoch   1 ") <= 1, f"{log} tells of two trainings"
