"""Trains and evaluates one cell in this process: settings and a prepared dataset in, scores out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from mlcl.data import PreparedDataset
from mlcl.training import distributed, protocols, throughput
from mlcl.training.context import SPLITS, Context
from mlcl.training.events import TrainingEvent
from mlcl.training.outcome import Outcome
from mlcl.training.settings import CellSettings


def train(
    settings: CellSettings,
    dataset: PreparedDataset,
    report: Callable[[TrainingEvent], None],
    checkpoints: Path | None = None,
) -> Outcome:
    """Follows the cell's protocol; on ranks above 0 the outcome is incomplete.

    Args:
        report: is called with each event of the training.
        checkpoints: a folder for checkpoints; training is resumed from those that are there. None saves none.

    Raises Diverged, Interrupted after a SIGTERM, and whatever encoder, loss or device raise.
    """
    torch.set_num_threads(settings.compute.threads)
    # Linear evaluation needs denormals flushed; set here, so that all cells of a process are treated alike.
    torch.set_flush_denormal(True)
    # No TF32: `fp32` means float32 on a GPU too; `precision: mixed` is the fast setting.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    device = distributed.select_device(settings.compute)
    context = Context(settings, dataset, device, report, checkpoints)
    outcome: Outcome = protocols.load(settings.protocol).run(context)
    if distributed.rank() > 0:
        return outcome
    rows = {split: context.rows(split) for split in SPLITS}
    return replace(outcome, rows=rows, throughput=throughput.measure(context, outcome.fitted))
