"""Collectives between two processes, and without any in a single process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from mlcl.training import distributed


def _exchanges(rank: int, port: int, folder: str) -> None:
    store = dist.TCPStore("127.0.0.1", port)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    labels = torch.tensor([[rank == 0, True], [False, rank == 1]])
    linear = nn.Linear(2, 1)
    linear.process_group = dist.group.WORLD
    seen: dict[str, Any] = {
        "count": (distributed.world_size(), distributed.rank()),
        "labels": distributed.all_gather(labels).tolist(),
        "all": distributed.all_gather_object({"rank": rank}),
        "any": [distributed.any_rank(rank == 1), distributed.any_rank(False)],
    }
    with distributed.single_process(linear):
        seen["alone"] = [
            distributed.world_size(),
            distributed.rank(),
            distributed.all_gather_object(rank),
            linear.process_group,
        ]
        with distributed.single_process(linear):
            pass
        seen["alone"].append(distributed.world_size())
    seen["after"] = [distributed.world_size(), linear.process_group is dist.group.WORLD]
    for parameter in linear.parameters():
        parameter.grad = torch.full_like(parameter, float(rank))
    distributed.average_gradients(linear)
    seen["gradients"] = [parameter.grad.flatten().tolist() for parameter in linear.parameters()]  # type: ignore[union-attr]
    torch.save(seen, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


def test_collectives(tmp_path: Path) -> None:
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    context = torch.multiprocessing.get_context("fork")
    children = [context.Process(target=_exchanges, args=(rank, store.port, str(tmp_path))) for rank in (0, 1)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    for rank in (0, 1):
        seen = torch.load(tmp_path / f"{rank}.pt")
        assert seen["count"] == (2, rank)
        assert seen["labels"] == [[True, True], [False, False], [False, True], [False, True]]
        assert seen["all"] == [{"rank": 0}, {"rank": 1}]
        assert seen["any"] == [True, False]
        assert seen["alone"] == [1, 0, [rank], None, 1]
        assert seen["after"] == [2, True]
        assert seen["gradients"] == [[0.5, 0.5], [0.5]]


def test_a_single_process_needs_no_collectives() -> None:
    assert (distributed.world_size(), distributed.rank()) == (1, 0)
    assert distributed.all_gather_object(3) == [3]
    assert [distributed.any_rank(flag) for flag in (True, False)] == [True, False]
    rows = torch.ones(2, 2)
    assert distributed.all_gather(rows) is rows
