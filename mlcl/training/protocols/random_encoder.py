"""Baseline: linear evaluation of the encoder as it is before training (for a pretrained one: as published)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlcl.training.context import Context
    from mlcl.training.outcome import Outcome

Settings = None
LOSS_INPUTS = ()
HAS_HEAD = False


def run(context: Context) -> Outcome:
    from mlcl.training.loop import FitResult
    from mlcl.training.methods import Untrained
    from mlcl.training.outcome import read_out

    return read_out(context, FitResult(Untrained(context.new_encoder(adapter=False))))
