"""Has a cell been trained? What is measured of it for that; `mlcl.records.diagnosis` judges."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from mlcl.evaluation.linear import Grid, LinearHeads
from mlcl.evaluation.metrics import UNKNOWN, mean_average_precision
from mlcl.training.events import EpochEnd

FEWEST_EPOCHS = 5
"""Fewer tell no trend."""
LAST_PART = 0.1
"""Of the summed learning rate: the end of training, whatever the schedule."""


def value_is_objective(method: nn.Module) -> bool:
    """Does training lower the value of the method's loss? REG's holds a detached term, so its value may rise while its
    gradient is followed."""
    return not any(getattr(part, "never_push_positives", False) for part in method.modules())


def of_curve(
    curve: Sequence[EpochEnd], training: Mapping[str, Any] | None, value_tells: bool = True
) -> dict[str, Any]:
    """What the learning curve of the last stage tells.

    `fall_rate`: how fast the loss falls at the end, as a multiple of its mean rate from the first epoch on. Both are
    per unit of summed learning rate, so that a schedule that ends at 0 does not hide a loss that would go on falling;
    the end is the last LAST_PART of that sum. `loss_left`: the last loss as a share of the first. Both None after
    fewer than FEWEST_EPOCHS epochs and where the value tells nothing (`value_is_objective`), `fall_rate` also for a
    loss that did not fall. `last_epoch_best`: is the epoch that validation chose the last one? None where validation
    was not looked at.
    """
    stage = (training or {}).get("finetuning") or training or {}
    lines = curve[-stage["epochs"] :] if stage else []
    losses = np.array([line.loss for line in lines])
    result: dict[str, Any] = {"epochs": len(lines), "fall_rate": None, "loss_left": None}
    if value_tells and len(lines) >= FEWEST_EPOCHS:
        spent = np.cumsum([line.learning_rate for line in lines])
        fall, over = losses[0] - losses[-1], spent[-1] - spent[0]
        last = LAST_PART * spent[-1]
        fall_at_end = np.interp(spent[-1] - last, spent, losses) - losses[-1]
        if fall > 0 and over > 0:
            result["fall_rate"] = float((fall_at_end / last) / (fall / over))
        if losses[0] > 0:
            result["loss_left"] = float(losses[-1] / losses[0])
    rule = stage.get("selection", "last")
    values = [getattr(line, rule.removeprefix("best_"), None) for line in lines]
    known = rule != "last" and bool(values) and None not in values
    result["last_epoch_best"] = (
        _best(values, lowest=rule == "best_val_loss") == len(values) if known else None
    )
    return result


def of_average(val_map: Mapping[str, float] | None) -> dict[str, Any] | None:
    """Which weights are evaluated where `averaged` and `plain` ones compete, and the mAP of both on validation."""
    if val_map is None:
        return None
    values = {name: value if math.isfinite(value) else None for name, value in val_map.items()}
    return {"evaluated": better_weights(val_map), "val_map": values}


def better_weights(val_map: Mapping[str, float]) -> str:
    """The name with the highest mAP on validation; of equals the first, and none whose mAP is not finite."""
    return max(val_map, key=lambda name: val_map[name] if math.isfinite(val_map[name]) else -math.inf)


def _best(values: Sequence[Any], lowest: bool) -> int:
    """The number of the best epoch, from 1; the first of equals."""
    return 1 + int(np.argmin(values) if lowest else np.argmax(values))


def of_fit(split: str, labels: NDArray[Any], scores: NDArray[Any]) -> dict[str, Any]:
    """mAP on rows of `split` (labels and scores (N, L)), and that of the frequencies of the labels as scores."""
    frequency = (labels == 1).sum(axis=0) / np.maximum((labels != UNKNOWN).sum(axis=0), 1)
    prior = float(frequency[frequency > 0].mean()) if (frequency > 0).any() else None
    fitted = mean_average_precision(labels, scores) if prior is not None else None
    return {"split": split, "map": fitted, "prior_map": prior}


def of_grid(heads: LinearHeads, grid: Grid) -> dict[str, dict[str, float]]:
    """setting of the grid -> `lowest`, `highest` -> share of heads and labels that chose this end of its values.

    Only settings with three values or more: with fewer, each of them is an end.
    """
    chosen = heads.chosen.cpu().numpy().ravel()
    result = {}
    for key, values, column in (
        ("learning_rate", grid.learning_rates, 0),
        ("weight_decay", grid.weight_decays, 1),
    ):
        if len(set(values)) >= 3:
            taken = np.array([combination[column] for combination in grid.combinations])[chosen]
            ends = {"lowest": min(values), "highest": max(values)}
            result[key] = {end: float(np.mean(taken == value)) for end, value in ends.items()}
    return result
