"""The steps in the order of their worth, each with a limit of its own, until the time is over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gpu import results, summary

ROOT = Path(__file__).parents[2]
SUMMARY, LOG = "summary.md", "log.txt"
LEAST_SECONDS = 5.0
"""A step that has less is skipped."""
KILL_AFTER = 3.0
"""Seconds between SIGTERM and SIGKILL for a step that is over its limit."""
LOG_BYTES = 15_000_000
QUICK_TESTS = "mulsupcon or tile or contrastive_linear or mlp or group or gpu_that_is_there"
QUICK_SHARE = 0.35
"""Of the time, for each step in its smallest form."""


@dataclass(frozen=True)
class Step:
    """One command of the campaign."""

    name: str
    arguments: Sequence[str]
    share: float
    """Of the campaign's time: its limit. The last step has what is left."""


def steps(work: Path, out: Path, device: str, quick: bool) -> list[Step]:
    """All of them, in the order in which they run."""
    results_file = str(out / results.FILE)
    small = ["--quick"] if quick else []
    given = ["--device", device, "--append", results_file, *small]
    tests = [
        "-m", "pytest", "-q", "-m", "gpu", "tests/gpu", "tests/losses", "-p", "no:cacheprovider",
        "-p", "benchmarks.gpu.test_log", "--append", results_file, "--timeout=120",
        "-o", "addopts=--strict-markers --import-mode=importlib",
    ]  # fmt: skip
    if quick:
        tests += ["-k", QUICK_TESTS]
    if _importable("xdist"):
        tests += ["-n", "12" if device == "cuda" else "2"]
    return [
        Step("machine", ["-m", "benchmarks.gpu.machine", *given], 0.08),
        Step("tests", tests, 0.40),
        Step("losses", ["-m", "benchmarks.gpu.loss_sweep", *given], 0.25),
        Step("training", ["benchmarks/training.py", *given], 0.12),
        Step("cells", ["-m", "benchmarks.gpu.cells", "rate", str(work), *given], 0.15),
        Step("study", ["-m", "benchmarks.gpu.cells", "study", str(work), str(out), *given], 1.0),
    ]


class Campaign:
    """Runs the steps; after each one the summary says what is known so far."""

    def __init__(self, work: Path, out: Path, seconds: float, device: str, quick: bool) -> None:
        self.work, self.out, self.device, self.quick = work, out, device, quick
        self.begun = time.monotonic()
        self.seconds = seconds
        out.mkdir(parents=True, exist_ok=True)

    @property
    def left(self) -> float:
        return self.seconds - (time.monotonic() - self.begun)

    def run(self, only: Sequence[str] | None = None) -> None:
        """All steps, or those of these names; prints the summary."""
        for step in steps(self.work, self.out, self.device, self.quick):
            if only and step.name not in only:
                continue
            self._run(step)
            text = summary.write(self.out, self.work / "contents.json")
        print(text)

    def _run(self, step: Step) -> None:
        share = max(step.share, QUICK_SHARE) if self.quick else step.share
        limit = min(share * self.seconds, self.left)
        if limit < LEAST_SECONDS:
            results.add(
                self.out / results.FILE, "step", name=step.name, state="skipped: no time left", seconds=0
            )
            return
        print(f"[{self.seconds - self.left:5.0f} s] {step.name}: up to {limit:.0f} s", flush=True)
        begun = time.monotonic()
        with (self.out / LOG).open("a", encoding="utf-8") as log:
            log.write(f"\n===== {step.name}\n")
            log.flush()
            environment = os.environ | {
                "MLCL_TEST_DEVICE": self.device,
                "MLCL_CAMPAIGN_SECONDS": f"{limit:.0f}",
            }
            process = subprocess.Popen(
                [sys.executable, *step.arguments], cwd=ROOT, env=environment, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
            try:
                code: int | None = process.wait(limit)
            except subprocess.TimeoutExpired:
                code = None
                _end(process)
        state = "over its time" if code is None else "ok" if code == 0 else f"exit code {code}"
        seconds = round(time.monotonic() - begun, 1)
        results.add(self.out / results.FILE, "step", name=step.name, state=state, seconds=seconds)
        print(f"[{self.seconds - self.left:5.0f} s] {step.name}: {state}, {seconds:.0f} s", flush=True)
        _shorten(self.out / LOG)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Stops the step with all processes that it started."""
    for number, wait in ((signal.SIGTERM, KILL_AFTER), (signal.SIGKILL, KILL_AFTER)):
        try:
            os.killpg(process.pid, number)
            process.wait(wait)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def _shorten(log: Path) -> None:
    """Keeps the log below what may come back."""
    if log.stat().st_size > LOG_BYTES:
        log.write_bytes(log.read_bytes()[-LOG_BYTES // 2 :])


def _importable(module: str) -> bool:
    from importlib.util import find_spec

    return find_spec(module) is not None
