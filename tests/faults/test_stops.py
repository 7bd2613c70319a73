"""A run that is stopped at a random moment goes on with the same command, and ends with the same results.

`MLCL_STOPS` says how many runs are stopped.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.workflow.sandbox import Sandbox

STOPS = int(os.environ.get("MLCL_STOPS", "4"))
LONGEST = 300
"""Seconds within which a stopped run has to end."""
WAYS = (
    ("Ctrl-C", signal.SIGINT, True),
    ("SIGTERM", signal.SIGTERM, False),
    ("SIGTERM to all", signal.SIGTERM, True),
    ("SIGKILL", signal.SIGKILL, False),
    ("SIGKILL to all", signal.SIGKILL, True),
)
"""Name, signal, and whether each process of the run gets it or Snakemake alone."""


class Finished:
    """A run that went through: its results, and how long it took."""

    def __init__(self, box: Sandbox) -> None:
        begun = time.monotonic()
        box.snakemake("--cores", "1")
        self.seconds = time.monotonic() - begun
        self.results = results(box)


def results(box: Sandbox) -> dict[str, object]:
    """What has to come out the same: `result` blocks, scores, metrics, tables; and that all else is there."""
    found: dict[str, object] = {
        str(path.relative_to(box.folder)): json.loads(path.read_text())["result"] for path in box.records()
    }
    outputs = [
        box.folder / "results/default/metrics.csv",
        *(box.folder / "paper_tables/default").glob("main.*"),
    ]
    for file in [*outputs, *box.folder.rglob("scores.npz")]:
        if file.suffix != ".pdf":
            found[str(file.relative_to(box.folder))] = file.read_bytes()
    for name in ("results/default/report.html", "results/default/complete.txt"):
        found[name] = (box.folder / name).exists()
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return Finished(Sandbox.new(tmp_path_factory.mktemp("finished") / "box"))


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Sandbox]:
    fresh = Sandbox.new(tmp_path / "box")
    yield fresh
    for process in Path("/proc").glob("[0-9]*"):
        try:
            inside = (process / "cwd").readlink() == fresh.folder
        except OSError:
            continue
        if inside:
            os.kill(int(process.name), signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("number", range(STOPS))
def test_stopped_at_a_random_moment_it_goes_on(finished: Finished, box: Sandbox, number: int) -> None:
    draw = random.Random(number)
    name, sent, to_all = WAYS[number % len(WAYS)]
    moment = finished.seconds * (number + draw.random()) / STOPS  # spread over the whole run
    run = box.start("--cores", "1")
    try:
        run.wait(timeout=moment)
    except subprocess.TimeoutExpired:
        os.killpg(run.pid, sent) if to_all else os.kill(run.pid, sent)
        run.wait(timeout=LONGEST)
    box.snakemake("--cores", "1")
    assert results(box) == finished.results, f"{name} after {moment:.1f} s of {finished.seconds:.1f} s"
    assert box.jobs() == {}, "and there is nothing left to do"
