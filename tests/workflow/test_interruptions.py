"""A run that is killed goes on with the same command, and ends with the same results."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.workflow.sandbox import LONG, TINY, Sandbox

Wait = Callable[[Callable[[], bool]], None]


def results(box: Sandbox) -> dict[str, dict]:
    """The `result` blocks, by cell."""
    return {
        str(path.relative_to(box.folder)): json.loads(path.read_text())["result"] for path in box.records()
    }


def training_processes(box: Sandbox) -> list[int]:
    """The train commands of the sandbox that run now."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().split(b"\0")
            inside = (process / "cwd").readlink() == box.folder
        except OSError:
            continue
        if inside and b"train" in command and b"mlcl" in command:
            found.append(int(process.name))
    return found


def is_training(box: Sandbox) -> bool:
    return any((box.folder / "results").rglob("running.json"))


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["snakemake", "child", "group"])
@pytest.mark.usefixtures("no_survivors")
def test_killed_and_resumed_gives_the_same_results(
    finished: Sandbox, fresh: Sandbox, wait_until: Wait, victim: str
) -> None:
    run = fresh.start("--cores", "all")
    wait_until(lambda: is_training(fresh))
    if victim == "child":
        os.kill(training_processes(fresh)[0], signal.SIGKILL)
    elif victim == "snakemake":
        os.kill(run.pid, signal.SIGKILL)
    else:
        os.killpg(run.pid, signal.SIGKILL)
    run.wait(timeout=240)
    assert run.returncode != 0
    fresh.snakemake("--cores", "all")
    assert results(fresh) == results(finished)
    assert fresh.jobs() == {}


@pytest.mark.usefixtures("no_survivors")
def test_a_second_live_run_in_one_folder_is_told_of_the_first_whatever_its_study(
    fresh: Sandbox, wait_until: Wait
) -> None:
    fresh.change_study(**LONG)  # else it may end before the other one looks
    run = fresh.start("--cores", "1")
    wait_until(lambda: is_training(fresh))
    fresh.write_study("other", TINY | {"baselines": [], "seeds": [7]})
    for study in ("default", "other"):
        second = fresh.snakemake("--cores", "1", "--config", f"study=config/{study}.yaml", check=False)
        assert second.returncode != 0
        owner = f"(study default, process {run.pid} on {os.uname().nodename})"
        assert f"another run is at work in this folder {owner}" in second.stdout
        assert "by 'mlcl work', or in a clone of its own" in second.stdout
    assert run.poll() is None
    assert len(list((fresh.folder / "results").rglob("metrics.json"))) == 0
    os.killpg(run.pid, signal.SIGKILL)
    run.wait(timeout=60)


def test_a_lock_of_another_host_is_left_alone(box: Sandbox) -> None:
    locks = box.folder / ".snakemake" / "locks"
    locks.mkdir(exist_ok=True)
    lock = locks / "0.output.lock"
    lock.write_text("results/default/complete.txt\n")
    owner = box.folder / ".snakemake" / "mlcl" / "owner.json"
    owner.write_text(json.dumps({"pid": 1, "host": "another-host"}))
    for _ in range(2):  # a refused try does not make the lock this host's
        assert box.snakemake("--cores", "1", check=False).returncode != 0
        assert lock.exists()
    assert json.loads(owner.read_text())["host"] == "another-host"
    owner.write_text(json.dumps(json.loads(owner.read_text()) | {"host": os.uname().nodename}))
    box.snakemake("--cores", "1")
    assert not lock.exists()


@pytest.mark.usefixtures("no_survivors")
def test_a_dry_run_beside_a_run_changes_nothing_and_stops_nothing(fresh: Sandbox, wait_until: Wait) -> None:
    fresh.change_study(**LONG)  # else it may end before the other one looks
    run = fresh.start("--cores", "1")
    wait_until(lambda: is_training(fresh))
    outline = fresh.folder / "results/default/outline.json"
    before = outline.read_bytes(), outline.stat().st_mtime_ns
    fresh.change_study(losses=["bce", "reg"], title="Other")
    assert fresh.jobs()["train"] > 0
    assert (outline.read_bytes(), outline.stat().st_mtime_ns) == before
    assert run.poll() is None
    os.killpg(run.pid, signal.SIGKILL)
    run.wait(timeout=60)


def test_a_finished_record_that_snakemake_did_not_see_finish_is_kept(box: Sandbox) -> None:
    """The job is killed between the end of the record and the end of the job, as by a time limit."""
    record = box.records()[0]
    content = json.loads(record.read_text())
    box.edit("mlcl/cli/making.py", "        _say_finished(record)\n", "        raise SystemExit(1)\n")
    content["result"]["fingerprint"] = "stale"
    record.write_text(json.dumps(content))
    run = box.snakemake("--cores", "1", check=False)
    assert run.returncode != 0, run.stdout
    assert "Error in rule train" in run.stdout, "errors of jobs are shown"
    made = json.loads(record.read_text())
    assert made["result"]["fingerprint"] != "stale"
    assert box.trained() == 0, "the next plan finds it current"
