"""A SLURM for all tests of this folder, and sandboxes that run through it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.slurm import Slurm
from tests.workflow.sandbox import Sandbox


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    if reason := Slurm.reason_against():
        pytest.skip(reason)
    with Slurm(tmp_path_factory.mktemp("slurm")) as started:
        yield started


@pytest.fixture
def box(tmp_path: Path, slurm: Slurm) -> Iterator[ClusterBox]:
    box = ClusterBox.new(tmp_path / "box")
    box.slurm = slurm
    yield box
    for run in box.started:
        if run.poll() is None:
            run.kill()
            run.wait()
    slurm.cancel_all()


class ClusterBox(Sandbox):
    """A sandbox whose Snakemake submits jobs."""

    slurm: Slurm
    timeout = 900.0

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        self.started.append(super().start(*arguments))
        return self.started[-1]

    @property
    def environment(self) -> dict[str, str]:
        return super().environment | self.slurm.environment | {"SLOWNESS": "1"}

    def command(self, *arguments: str) -> list[str]:
        """With the status asked for often: a job of the tests takes seconds."""
        quick = ("--slurm-init-seconds-before-status-checks", "3", "--latency-wait", "10")
        return super().command("--profile", "profiles/slurm", *quick, *arguments)

    def wait_until(self, condition: Callable[[], object], seconds: float = 600) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, (
                f"waited in vain:\n{self.said}\n{self.slurm.jobs('%i', '%T', '%r', '%k')}"
            )
            time.sleep(0.2)

    @property
    def said(self) -> str:
        """The output of what was started."""
        log = self.folder / "started.log"
        return log.read_text() if log.exists() else ""

    def states(self, cell: str) -> list[tuple[str, str]]:
        """Number and state of each job of a cell, oldest first."""
        comment = f"rule_train_wildcards_{cell.replace('/seed', '/').replace('/', '_')}"
        jobs = self.slurm.jobs("%i", "%T", "%Z", "%k")
        own = [
            (job, state)
            for job, state, folder, said in jobs
            if said == comment and folder == str(self.folder)
        ]
        return sorted(own, key=lambda job: int(job[0]))
