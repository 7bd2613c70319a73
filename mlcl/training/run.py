"""One cell: its settings and a prepared dataset in, scores out. Knows nothing of the grid."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace

import torch

from mlcl.data import PreparedDataset
from mlcl.training.context import EVALUATED, Context, Outcome
from mlcl.training.loop import EpochReport
from mlcl.training.settings import CellSettings, ComputeSettings


def train(settings: CellSettings, dataset: PreparedDataset, report: Callable[[EpochReport], None]) -> Outcome:
    """Follows the cell's protocol. Raises `loop.Diverged`, or whatever goes wrong inside."""
    device = select_device(settings.compute)
    torch.set_num_threads(settings.compute.threads)
    protocol = importlib.import_module(f"mlcl.training.protocols.{settings.protocol}")
    context = Context(settings, dataset, device, report)
    outcome: Outcome = protocol.run(context)
    return replace(outcome, examples={split: len(context.rows(split)) for split in ("train", *EVALUATED)})


def select_device(compute: ComputeSettings) -> torch.device:
    if compute.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(compute.device)
