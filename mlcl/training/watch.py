"""Watches losses and gradients for values that are not finite."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from mlcl.training.events import Diverged

if TYPE_CHECKING:
    import numpy as np

CHECK_EVERY = 100
CHECK_SECONDS = 5.0
"""How often losses and gradients are checked for non-finite values, in steps and in seconds. Each check synchronises
with the device."""
MIN_LOSS_SCALE = 2.0**-20
"""Below this loss scale every recent float16 step overflowed and was skipped; the run counts as diverged."""
NAMED_ROWS = 5
"""Rows of the batch that a message names."""


class NonFiniteWatch:
    """Checks the steps since the last check; call `start` at the beginning of each epoch, also of a resumed one."""

    def __init__(self, ids: Sequence[str] | np.ndarray, steps_per_epoch: int) -> None:
        """`ids` of all rows of the split name rows in messages; where it is empty, row numbers do."""
        self._ids, self._steps_per_epoch = ids, steps_per_epoch
        self.start(0)

    def start(self, batches_done: int) -> None:
        """Steps of the epoch before this one are not checked (again)."""
        self.last_check, self._last_time = batches_done, time.perf_counter()

    def due(self, batches_done: int) -> bool:
        seconds = time.perf_counter() - self._last_time
        return seconds >= CHECK_SECONDS or batches_done - self.last_check >= CHECK_EVERY

    def check(
        self,
        epoch: int,
        batches: list[np.ndarray],
        losses: list[torch.Tensor],
        norms: list[torch.Tensor],
        loss_scale: float | None,
    ) -> None:
        """Raises Diverged, naming epoch, step and rows, if a step since the last check was not finite.

        Args:
            epoch: counted from 0.
            batches: row numbers of each batch of the epoch.
            losses, norms: loss and gradient norm of each finished step of the epoch, scalars on the device.
            loss_scale: of float16 training, which skips steps with infinite gradients; None otherwise.
        """
        first = self.last_check
        self.start(len(losses))
        if first == len(losses):
            return
        finite = torch.isfinite(torch.stack(losses[first:]))
        if loss_scale is None:
            finite &= torch.isfinite(torch.stack(norms[first:]))
        elif loss_scale < MIN_LOSS_SCALE:
            finite[-1] = False
        if finite.all():
            return
        batch = first + int((~finite).nonzero()[0])
        rows = batches[batch]
        names = [str(self._ids[row]) if len(self._ids) else str(row) for row in rows[:NAMED_ROWS]]
        raise Diverged(
            f"epoch {epoch + 1}, step {epoch * self._steps_per_epoch + batch + 1}: the loss was "
            f"{losses[batch].item()}, its gradient norm {norms[batch].item()}; the batch has {len(rows)} rows: "
            f"{', '.join(names)}{', ...' if len(rows) > NAMED_ROWS else ''}"
        )
