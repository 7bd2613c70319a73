"""Where the time of a training step goes, measured without synchronising with the device."""

from __future__ import annotations

import time
from typing import Any

import torch

PARTS = ("data", "forward", "loss", "backward", "optimizer")


class StepTimer:
    """Adds up the seconds of each part of the steps; on a GPU with CUDA events, which `collect` reads."""

    def __init__(self, device: torch.device) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self._on_gpu = device.type == "cuda"
        self._events: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []
        self._last: Any = None

    def start(self) -> None:
        """Begins a step; time since the last mark is not counted."""
        self._last = self._now()

    def mark(self, part: str) -> None:
        """Counts the time since the last mark as `part`."""
        now = self._now()
        if self._on_gpu:
            self._events.append((part, self._last, now))
        else:
            self.seconds[part] += now - self._last
        self._last = now

    def collect(self) -> None:
        """Reads the events. Call it when the device is idle anyway, such as after a value was read from it."""
        for part, begin, end in self._events:
            end.synchronize()
            self.seconds[part] += begin.elapsed_time(end) / 1000
        self._events.clear()

    def _now(self) -> Any:
        if not self._on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event
