"""A workflow that is stopped in the moment in which a preparation ends: Snakemake deletes the card that it did not see
finish, and the next run must go on."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlcl.data import open_dataset

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
