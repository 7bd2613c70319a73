"""Baseline: linear evaluation of the encoder as it is before training."""

from __future__ import annotations

from mlcl.training.context import Context, Outcome
from mlcl.training.evaluating import evaluate_linearly


def run(context: Context) -> Outcome:
    return evaluate_linearly(context, context.new_encoder(), curve=[])
