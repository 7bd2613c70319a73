"""The warm worker of a run: the bits of a process of its own, and nothing left behind, whatever is killed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from mlcl import handover
from tests.workflow.sandbox import LONG, Sandbox

Wait = Callable[..., None]
SOCKET = Path(".snakemake/mlcl/worker.socket")
CELL = "digit_scenes/cnn/jaccard/base/seed0"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the warm worker needs Linux")


class Run:
    """A worker of this process for a sandbox, and jobs that hand their command over."""

    def __init__(self, box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
        self.box = box
        monkeypatch.chdir(box.folder)
        SOCKET.parent.mkdir(parents=True, exist_ok=True)
        monkeypatch.delenv(handover.SOCKET, raising=False)
        started = handover.start(SOCKET, box.folder)
        assert started is not None
        self.worker = started
        monkeypatch.setenv(handover.SOCKET, str(SOCKET))  # `start` set it; this takes it away after the test

    def request(self, cell: str) -> Path:
        return self.box.folder / ".snakemake/mlcl/default" / cell / "cell.json"

    def job(self, cell: str = CELL) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "mlcl", "train", str(self.request(cell))],
            cwd=self.box.folder,
            env=self.box.environment | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def children(self) -> list[int]:
        tasks = Path(f"/proc/{self.worker.pid}/task/{self.worker.pid}/children").read_text()
        return [int(pid) for pid in tasks.split()]

    def is_training(self) -> bool:
        return bool(list(self.box.folder.rglob("checkpoints-*/*.pt")))

    def end(self) -> None:
        """As the run does: by letting the worker's standard input go."""
        assert self.worker.stdin is not None
        self.worker.stdin.close()
        self.worker.wait(timeout=200)


@pytest.fixture
def run(fresh: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    fresh.mlcl("prepare", "config/default.yaml")
    made = Run(fresh, monkeypatch)
    yield made
    if made.worker.poll() is None:
        made.end()


def plan(run: Run, **changes: object) -> None:
    run.box.change_study(**changes)
    run.box.mlcl("prepare", "config/default.yaml")


def gone(pid: int) -> bool:
    try:
        return "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True


def results(folder: Path) -> dict[str, object]:
    """The `result` blocks and scores of all cells."""
    found: dict[str, object] = {}
    for record in sorted((folder / "results").glob("*/*/*/*/*/seed*/metrics.json")):
        cell = str(record.parent.relative_to(folder))
        found[cell] = json.loads(record.read_text())["result"]
        with np.load(record.with_name("scores.npz")) as file:
            found[f"{cell} scores"] = {name: values.tobytes() for name, values in file.items()}
    return found


def test_the_bits_are_those_of_processes_of_their_own(finished: Sandbox, run: Run) -> None:
    """`finished` was made with a worker by the workflow; here each cell is made with and without one."""
    cells = [str(path.parent.relative_to(run.box.folder / ".snakemake/mlcl/default"))
             for path in (run.box.folder / ".snakemake/mlcl/default").rglob("cell.json")]  # fmt: skip
    jobs = [run.job(cell) for cell in cells]
    for job in jobs:
        said = job.communicate(timeout=200)[0]
        assert job.returncode == 0, said
    by_worker = results(run.box.folder)
    run.end()  # its socket cannot be copied
    alone = run.box.copy(run.box.folder.with_name("alone"))
    for record in alone.records():
        record.unlink()
    os.environ.pop(handover.SOCKET)
    for cell in cells:
        alone.mlcl("train", "config/default.yaml", cell)
    assert results(alone.folder) == by_worker == results(finished.folder)
    assert len(by_worker) == 2 * len(cells) > 4


def test_the_workflow_uses_it_and_takes_it_along_when_it_ends(fresh: Sandbox) -> None:
    fresh.edit("mlcl/worker.py", "        self._selector.register(connection,", "        print('FORKED', pid)\n"
               "        self._selector.register(connection,")  # fmt: skip
    said = fresh.snakemake("--cores", "1", "--verbose").stdout
    assert len(fresh.records()) == 4
    assert len(re.findall("FORKED", said)) == 5, "each cell, and the report"
    assert not (fresh.folder / SOCKET).exists()
    steps = int(re.findall(r"of (\d+) steps", said)[-1])
    assert "Execute 1 jobs" in said
    assert not re.search("Execute [2-9] jobs", said)  # one core, one job
    # Looked for when a job ends, not every second besides.
    assert len(re.findall("Ready jobs: ", said)) <= steps + 1


def test_told_to_end_the_child_saves_its_state_and_the_worker_goes_on(run: Run, wait_until: Wait) -> None:
    plan(run, **LONG)
    job = run.job()
    wait_until(run.is_training, 300)
    (child,) = run.children()
    job.terminate()
    said = job.communicate(timeout=200)[0]
    assert job.returncode == 128 + signal.SIGTERM, said
    assert "the state is saved" in said
    assert gone(child)
    plan(run, **(LONG | {"training": LONG["training"] | {"epochs": 1}}))
    again = run.job()
    said = again.communicate(timeout=200)[0]
    assert again.returncode == 0, said


@pytest.mark.parametrize("victim", ["job", "run", "worker"])
def test_a_kill_leaves_no_training_behind(run: Run, wait_until: Wait, victim: str) -> None:
    plan(run, **LONG)
    job = run.job()
    wait_until(run.is_training, 300)
    (child,) = run.children()
    if victim == "job":
        job.kill()
    elif victim == "worker":
        run.worker.kill()
        wait_until(lambda: gone(child))
        job.terminate()  # it goes on by itself
    else:
        run.end()
    wait_until(lambda: gone(child))
    job.communicate(timeout=200)
    assert job.returncode != 0
    assert not run.box.records()
    assert run.is_training(), "its state is saved"


def test_a_crash_costs_one_cell(run: Run, wait_until: Wait) -> None:
    plan(run, **LONG)
    job = run.job()
    wait_until(run.is_training, 300)
    (child,) = run.children()
    os.kill(child, signal.SIGKILL)
    said = job.communicate(timeout=200)[0]
    assert job.returncode == 128 + signal.SIGKILL
    assert "ended by SIGKILL" in said
    assert run.worker.poll() is None


def test_after_the_worker_died_a_job_makes_its_cell_by_itself(run: Run) -> None:
    run.worker.kill()
    run.worker.wait()
    job = run.job("digit_scenes/none/label_prior/base/seed0")
    said = job.communicate(timeout=200)[0]
    assert job.returncode == 0, said
    assert len(run.box.records()) == 1


def test_changed_code_is_not_run_by_a_worker_that_loaded_the_old_one(run: Run) -> None:
    cell = "digit_scenes/none/label_prior/base/seed0"
    first = run.job(cell)
    said = first.communicate(timeout=200)[0]
    assert first.returncode == 0, said
    run.box.edit("mlcl/training/protocols/label_prior.py", "axis=0", "axis=-2")
    second = run.job(cell)
    said = second.communicate(timeout=200)[0]
    assert second.returncode == 2
    assert "the code changed after the study was planned" in said
