"""Several processes that hold one batch together (`torch.distributed`); one process is the simplest case.

Every rank calls the loss with its own rows. Rows, labels and logits are gathered, so that the value on every rank
is that of the whole batch. Gradients are made for DDP, which averages them over ranks: after the average they
are those of one process that holds the whole batch. Ranks may hold different numbers of rows, or none.
"""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable


class Ranks:
    """Who holds which rows of the batch: this process those from `start` to `stop` of `total`."""

    def __init__(self, group: dist.ProcessGroup | None, rows: Tensor) -> None:
        self.group = group
        if group is None:
            self.size, self.rank, self.counts = 1, 0, [len(rows)]
        else:
            self.size, self.rank = dist.get_world_size(group), dist.get_rank(group)
            # Between hosts, where the group can: on a GPU the host would wait for the counts.
            device = torch.device("cpu") if "cpu:" in dist.get_backend_config(group) else rows.device
            counts = [torch.zeros(1, dtype=torch.long, device=device) for _ in range(self.size)]
            dist.all_gather(counts, torch.tensor([len(rows)], device=device), group=group)
            self.counts = [int(count) for count in counts]
        ends = list(accumulate(self.counts))
        self.start, self.stop, self.total = (
            ends[self.rank] - self.counts[self.rank],
            ends[self.rank],
            ends[-1],
        )

    def range_of(self, group: str, items: int) -> tuple[int, int]:
        """The anchors that this rank takes care of: its own rows of the batch, its share of other items."""
        if group == "batch":
            return self.start, self.stop
        return items * self.rank // self.size, items * (self.rank + 1) // self.size

    def gather(self, rows: Tensor) -> Tensor:
        """The rows of all ranks, in their order; without a graph."""
        if self.size == 1:
            return rows
        padded = rows.new_zeros(max(self.counts), *rows.shape[1:])
        padded[: len(rows)] = rows
        received = [torch.empty_like(padded) for _ in self.counts]
        dist.all_gather(received, padded, group=self.group)
        return torch.cat([part[:count] for part, count in zip(received, self.counts, strict=True)])

    def gather_with_gradient(self, rows: Tensor) -> Tensor:
        """As `gather`, for a loss that every rank then computes on the whole batch."""
        gathered: Tensor = rows if self.size == 1 else _Gather.apply(rows, self)
        return gathered

    def sum_(self, values: Tensor) -> Tensor:
        """The sum over ranks, in place."""
        if self.size > 1:
            dist.all_reduce(values, group=self.group)
        return values


class _Gather(torch.autograd.Function):
    """All ranks hold the same gradient of the whole: each keeps its rows', times what DDP's average divides by."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        return ranks.gather(rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient[ctx.ranks.start : ctx.ranks.stop] * ctx.ranks.size, None
