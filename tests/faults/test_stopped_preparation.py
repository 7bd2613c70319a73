"""A workflow that is stopped in the moment in which a preparation ends: Snakemake deletes the card that it did not see
finish, and the next run must go on."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlcl.data import open_dataset
from mlcl.study.runlock import forget_unfinished
from tests.workflow.sandbox import Sandbox

STARTED = "Execute 1 jobs"
REPOSITORY = Path(__file__).parents[2]
STOPS = 20


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_next_run_goes_on_after_a_stop_at_the_end(tmp_path: Path, stop: signal.Signals) -> None:
    rows = "".join(f"text {number},{'ab'[number % 2]}\n" for number in range(200))
    (tmp_path / "t.csv").write_text(f"text,tags\n{rows}", encoding="utf-8")
    settings = '{"path": "t.csv", "text": "text", "label_list": "tags"}'
    for number in range(STOPS):
        out = tmp_path / f"out{number}"
        command = [
            sys.executable,
            "-m",
            "data_prep",
            "table",
            "--data-root",
            str(tmp_path),
            "--out",
            str(out),
        ]
        process = subprocess.Popen(
            [*command, "--settings", settings], cwd=REPOSITORY, stdout=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 60
        # The moments before and after the folder is put in place; the card is there as soon as the folder is.
        seen = out if number % 2 else out.with_name(f".{out.name}.mlcl-preparing") / ".card.json"
        while not seen.exists() and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        process.send_signal(stop)
        process.wait()
        (out / "card.json").unlink(missing_ok=True)
        subprocess.run(
            [*command, "--settings", settings], cwd=REPOSITORY, check=True, stdout=subprocess.DEVNULL
        )
        assert sum(len(open_dataset(out)[split]) for split in ("train", "val", "test")) == 200


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
def test_the_next_run_makes_the_study_after_a_stop_in_the_preparation(
    tmp_path: Path, stop: signal.Signals
) -> None:
    """Snakemake marks what it was making, and left out all that depends on it: a run of one job, which ended well."""
    box = Sandbox.new(tmp_path / "box")
    run = box.start("--cores", "1")
    deadline = time.monotonic() + 120
    while STARTED not in (box.folder / "started.log").read_text(encoding="utf-8"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(1)
    os.kill(run.pid, stop)
    run.wait(timeout=120)
    box.snakemake("--cores", "1")
    assert (box.folder / "results/default/complete.txt").exists()
    assert len(box.records()) == 4


def test_marks_of_unfinished_preparations_are_forgotten(tmp_path: Path) -> None:
    long = "results/.prepared/" + 200 * "x" + "/card.json"
    for path in ("results/.prepared/a-1/card.json", long, "results/default/metrics.csv"):
        code = base64.urlsafe_b64encode(path.encode()).decode()
        parts = [code[start : start + 254] for start in range(0, len(code), 254)]
        mark = tmp_path.joinpath(*(f"@{part}" for part in parts[:-1]), parts[-1])
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
    forget_unfinished(tmp_path, Path("results/.prepared"))
    (left,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert base64.urlsafe_b64decode(left.name) == b"results/default/metrics.csv"
    forget_unfinished(tmp_path / "nothing", Path("results/.prepared"))
