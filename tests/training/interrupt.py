"""Interrupts training after a given step."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from mlcl.training import loop


@contextmanager
def at_step(number: int, do: Callable[[], None]) -> Iterator[list[int]]:
    """Does something after the step of this number, counted from 1; gives the list of all steps."""
    steps: list[int] = []
    original = loop.TrainingRun.step

    def step(self: Any, host_batch: Any) -> None:
        original(self, host_batch)
        steps.append(len(steps) + 1)
        if len(steps) == number:
            do()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.TrainingRun, "step", step)
        yield steps


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


class Killed(BaseException):
    """Stands for a kill: nothing is done any more."""


def kill() -> None:
    raise Killed
