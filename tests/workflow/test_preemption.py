"""A cell that is told to end, or killed, goes on with the same command and leaves the same record."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.workflow.sandbox import TINY, Sandbox

CELL = "digit_scenes/cnn/jaccard/base/seed0"
STUDY = TINY | {
    "losses": ["jaccard"],
    "baselines": [],
    "training": {
        "epochs": 6, "steps_per_epoch": 40, "batch_size": 32, "projection_dim": 8, "selection": "best_val_loss",
    },
}  # fmt: skip
TOLD_TO_END = 128 + signal.SIGTERM


class Cell:
    """One cell of a sandbox's study, made by `mlcl train`."""

    def __init__(self, box: Sandbox, **changes: object) -> None:
        self.box = box
        box.write_study("default", STUDY | changes)

    @property
    def record(self) -> Path:
        return self.box.folder / "results" / "default" / CELL / "metrics.json"

    @property
    def checkpoints(self) -> list[Path]:
        return list((self.box.folder / "results").rglob("checkpoints-*/*.pt"))

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "mlcl", "train", "config/default.yaml", CELL],
            cwd=self.box.folder,
            env=self.box.environment | {"OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def train(self) -> str:
        process = self.start()
        said = process.communicate(timeout=280)[0]
        assert process.returncode == 0, said
        return said

    def result(self) -> tuple[dict, dict[str, np.ndarray], list[list[str]]]:
        """The record's `result`, the scores and the learning curve without its times."""
        with np.load(self.record.with_name("scores.npz")) as file:
            scores = dict(file)
        lines = [line.split(",") for line in self.record.with_name("history.csv").read_text().splitlines()]
        kept = [number for number, name in enumerate(lines[0]) if "second" not in name]
        return (
            json.loads(self.record.read_text())["result"],
            scores,
            [[line[number] for number in kept] for line in lines],
        )


def same(first: Cell, second: Cell) -> None:
    (result, scores, curve), (other_result, other_scores, other_curve) = first.result(), second.result()
    assert result == other_result
    assert curve == other_curve
    assert scores.keys() == other_scores.keys()
    assert all(np.array_equal(scores[name], other_scores[name]) for name in scores)


def cells(folder: Path, **changes: object) -> tuple[Cell, Cell]:
    """The same cell twice, of the same sources."""
    box = Sandbox.new(folder / "first")
    return Cell(box, **changes), Cell(box.copy(folder / "second"), **changes)


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 200
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_told_to_end_it_saves_and_goes_on(tmp_path: Path, processes: int) -> None:
    compute = {"compute": {"processes": processes, "device": "cpu"}}
    interrupted, uninterrupted = cells(tmp_path, **compute)
    process = interrupted.start()
    wait_for(lambda: bool(interrupted.checkpoints), process)  # an epoch is over
    process.terminate()
    said = process.communicate(timeout=120)[0]
    assert process.returncode == TOLD_TO_END, said
    assert "the state is saved" in said
    assert not interrupted.record.exists()
    assert len(interrupted.checkpoints) == 1
    said = interrupted.train()
    assert "a checkpoint was found: training goes on in epoch " in said
    assert interrupted.checkpoints == []
    assert "a checkpoint was found" not in uninterrupted.train()
    same(interrupted, uninterrupted)


@pytest.mark.slow
def test_killed_again_and_again_it_ends_with_the_same_bits(tmp_path: Path) -> None:
    killed, whole = cells(tmp_path)
    whole.train()
    drawn = random.Random(0)
    for _ in range(4):
        process = killed.start()
        before = killed.checkpoints[0].stat().st_mtime_ns if killed.checkpoints else 0

        def saved_since(before: int = before) -> bool:
            found = killed.checkpoints
            return killed.record.exists() or (bool(found) and found[0].stat().st_mtime_ns > before)

        wait_for(saved_since, process)
        time.sleep(drawn.random() * 0.5)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if killed.record.exists():
            break
    killed.train()
    assert killed.checkpoints == []
    same(killed, whole)


@pytest.mark.slow
def test_a_checkpoint_of_other_settings_is_not_used(tmp_path: Path) -> None:
    cell = Cell(Sandbox.new(tmp_path / "box"))
    process = cell.start()
    wait_for(lambda: bool(cell.checkpoints), process)
    process.kill()
    process.communicate()
    (left,) = cell.checkpoints
    changed = Cell(cell.box, training=STUDY["training"] | {"learning_rate": 0.003, "epochs": 1})
    assert "a checkpoint was found" not in changed.train()
    assert not left.exists()
    assert changed.checkpoints == []
    assert json.loads(changed.record.read_text())["result"]["status"] == "ok"
