"""Where the time of a step goes, measured without making the host wait for the device."""

from __future__ import annotations

import time
from typing import Any

import torch

PARTS = ("data", "forward", "loss", "backward", "optimizer")


class StepClock:
    """Adds up the seconds of each part of the steps; on a GPU by events, which are read in `collect`."""

    def __init__(self, device: torch.device) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self._on_gpu = device.type == "cuda"
        self._events: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []
        self._last: Any = None

    def start(self) -> None:
        """A step begins, or the time since the last mark is not to count."""
        self._last = self._now()

    def mark(self, part: str) -> None:
        """The time since the last mark went into `part`."""
        now = self._now()
        if self._on_gpu:
            self._events.append((part, self._last, now))
        else:
            self.seconds[part] += now - self._last
        self._last = now

    def collect(self) -> None:
        """To be called when the device has finished, such as after a value was read from it."""
        for part, begun, ended in self._events:
            ended.synchronize()
            self.seconds[part] += begun.elapsed_time(ended) / 1000
        self._events.clear()

    def _now(self) -> Any:
        if not self._on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event
