"""Has a cell been trained to its end? The rules, on what its record measures (`mlcl.training.diagnostics`).

The thresholds are ours. Per unit of learning rate, a loss that is done falls far more slowly than on average, and one
that has hardly begun about as fast. In the default study as it was (15 epochs on digit_scenes), jaccard and reg fell
2.0 to 2.3 times as fast at the end as on average, and three times the epochs gave them 4 to 12 points of micro-F1; bce
fell 1.2 times as fast, to a tenth of its first value, and gained 0.5 points.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

STILL_FALLING = 1.5
"""Times the mean rate of the fall: a loss that falls so fast at the end is not done."""
STEADY = 0.8
LITTLE_FALLEN = 0.75
"""A loss that falls steadily, and at the end has more than this share of its first value left, has hardly begun. (A
contrastive loss cannot reach 0, but when it is done it does not fall steadily.)"""
NEAR_PRIOR = 0.05
"""Share of the way from the label prior's mAP to 1."""
INITIAL_LEFT = 0.05
"""Share of the initial weights in averaged ones: KMCL's average (decay 0.9997) holds 96 % of them after 150 steps, and
had mAP 8.9 where the plain weights had 33.5."""
EDGE = 0.5
"""Share of heads and labels that choose an end of the grid."""


def untrained(diagnostics: Mapping[str, Any] | None) -> list[str]:
    """Why the cell's training does not count as finished, in words; empty if it does, or nothing is known."""
    if not diagnostics:
        return []
    curve, fit = diagnostics["curve"], diagnostics["fit"]
    reasons = []
    rate, left = curve["fall_rate"], curve["loss_left"]
    if left is not None and left >= 1:
        reasons.append("the training loss did not fall")
    elif rate is not None and (rate >= STILL_FALLING or (rate >= STEADY and left > LITTLE_FALLEN)):
        reasons.append("the training loss is still falling")
    if curve["last_epoch_best"]:
        reasons.append("the last epoch is the best on validation")
    if curve["epochs"] and _is_near_prior(fit):
        rows = "training" if fit["split"] == "train" else "validation"
        reasons.append(f"on {rows} rows it is hardly better than the label prior")
    return reasons


def lagging_average(settings: Mapping[str, Any], steps: Sequence[int]) -> list[str]:
    """Whether a moving average of the weights reaches back further than its training, in words.

    It starts from the initial weights, of which `ema_decay` to the power of the number of steps is left at the end;
    with `ema_warmup` next to nothing.
    settings: of the cell's training. steps: optimizer steps since training began, at the end of each epoch.
    """
    stage = settings.get("finetuning") or settings
    decay, epochs = stage.get("ema_decay"), stage.get("epochs", 0)
    if decay is None or stage.get("ema_warmup") or not steps or not epochs:
        return []
    before = steps[-epochs - 1] if len(steps) > epochs else 0
    left = decay ** (steps[-1] - before)
    if left < INITIAL_LEFT:
        return []
    return [f"the moving average of the weights still holds {100 * left:.0f} % of the initial ones"]


def _is_near_prior(fit: Mapping[str, Any]) -> bool:
    return fit["map"] is not None and fit["map"] - fit["prior_map"] < NEAR_PRIOR * (1 - fit["prior_map"])


def edges(diagnostics: Mapping[str, Any] | None) -> list[str]:
    """Settings of linear evaluation whose choice lies at an end of the grid, in words."""
    grid = (diagnostics or {}).get("grid", {})
    return [
        f"linear evaluation chose the {end} {key.replace('_', ' ')} for {100 * share:.0f} % of heads and labels"
        for key, ends in grid.items()
        for end, share in ends.items()
        if share > EDGE
    ]
