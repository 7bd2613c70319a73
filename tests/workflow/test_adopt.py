"""`mlcl adopt`: records of code that changed and gives the same bits are kept; others are named and stay stale."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from tests.workflow.sandbox import Sandbox

JACCARD = "digit_scenes/cnn/jaccard/base/seed0"


def mlcl(box: Sandbox, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mlcl", *arguments],
        cwd=box.folder,
        env=box.environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def contents(box: Sandbox) -> dict[Path, str]:
    return {record: record.read_text() for record in box.records()}


def result_of(box: Sandbox, cell: str) -> dict:
    return json.loads((box.folder / "results" / "default" / cell / "metrics.json").read_text())["result"]


def test_a_rename_in_the_kernel_is_adopted(box: Sandbox) -> None:
    before = result_of(box, JACCARD)
    scores = (box.folder / "results" / "default" / JACCARD / "scores.npz").read_bytes()
    for old, new in (("def tile_options(", "def options_of_tile("), (" tile_options(", " options_of_tile(")):
        box.edit("mlcl/losses/_kernel.py", old, new)
    assert "options_of_tile (new)" in mlcl(box, "why", "config/default.yaml", JACCARD).stdout
    done = mlcl(box, "adopt", "config/default.yaml")
    assert done.returncode == 0, done.stderr
    assert f"1 records adopted, proved by {JACCARD}" in done.stderr
    after = result_of(box, JACCARD)
    assert after["adopted"] == {"from": before["fingerprint"], "proved_by": [JACCARD]}
    changed = {"fingerprint", "code", "adopted"}
    assert {k: v for k, v in after.items() if k not in changed} == {
        k: v for k, v in before.items() if k not in changed
    }
    assert (box.folder / "results" / "default" / JACCARD / "scores.npz").read_bytes() == scores
    assert box.trained() == 0
    assert not (box.folder / "results" / ".adopt" / "default").exists()


def test_a_changed_constant_in_the_kernel_is_refused_and_named(box: Sandbox) -> None:
    box.edit("mlcl/losses/_kernel.py", "alpha=1 / problem.temperature", "alpha=2 / problem.temperature")
    before = contents(box)
    done = mlcl(box, "adopt", "config/default.yaml")
    assert done.returncode == 2
    assert re.search(rf"{JACCARD}: (diagnostics|metrics)\.", done.stderr)
    assert "no record was changed" in done.stderr
    assert "Traceback" not in done.stderr
    assert contents(box) == before
    assert box.trained() == 1


def test_a_changed_setting_is_nothing_to_adopt(box: Sandbox) -> None:
    box.change_study(losses={"bce": {}, "jaccard": {"temperature": 0.2}})
    before = contents(box)
    done = mlcl(box, "adopt", "config/default.yaml")
    assert done.returncode == 0
    assert "no record is stale for changed code alone; 1 are stale for other reasons" in done.stderr
    assert contents(box) == before
