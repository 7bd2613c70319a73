"""Baseline: linear evaluation of the encoder as it is before training (for a pretrained one: as published)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlcl.training.context import Context, Outcome

Settings = None
TRAINS = ()
READS_FEATURES = True


def run(context: Context) -> Outcome:
    from mlcl.training.loop import Fitted
    from mlcl.training.methods import Untrained
    from mlcl.training.reading import read_features

    return read_features(context, Fitted(Untrained(context.new_encoder(adapter=False))))
