"""Search over settings: what each trial draws.

All losses get the same draws of the common space, so that their budgets are equal: the same epochs, batch sizes and
learning rates in the same trials. Parameters that only one loss has are drawn on top, from a stream of their own.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, model_validator

from mlcl.evaluation.readouts import Readout
from mlcl.training.settings import Settings

Space = dict[str, list[Any] | dict[str, list[float]]]
"""setting -> a list to choose from, or `{log_uniform: [low, high]}`, `{uniform: [low, high]}`"""


class SearchSettings(Settings):
    """How settings are searched for, before the chosen ones run with the study's seeds."""

    method: Literal["random", "grid"] = "random"
    trials: PositiveInt | None = None
    """Of each loss on each dataset and encoder; a grid has as many as its space has combinations."""
    seed: Annotated[int, Field(ge=0)] = 1000
    """Of the draws, and of the cells of all trials; none of the study's."""
    metric: str = "map"
    """On validation, the same for all losses."""
    readout: Readout | None = None
    """By which the trials are scored; None: the one that the study's tables are about."""
    space: Annotated[Space, Field(min_length=1)]
    """Settings of training, or hyperparameters for the losses that have them."""
    losses: dict[str, Space] = {}
    """loss -> hyperparameters and settings of training that are searched for it alone."""

    @model_validator(mode="after")
    def _method_fits(self) -> SearchSettings:
        spaces = [self.space, *self.losses.values()]
        for space in spaces:
            for key, given in space.items():
                _check_range(key, given)
        if self.method == "random" and self.trials is None:
            raise ValueError("trials: a random search needs their number")
        if self.method == "grid":
            if self.trials is not None:
                raise ValueError("trials: a grid has as many as its combinations; leave it out")
            if self.losses:
                raise ValueError("losses: a grid would give losses different numbers of trials; take random")
            if ranges := [key for space in spaces for key, given in space.items() if isinstance(given, dict)]:
                raise ValueError(f"space.{ranges[0]}: a grid needs lists of values")
        return self


def _check_range(key: str, given: Any) -> None:
    if isinstance(given, list):
        if not given:
            raise ValueError(f"{key}: an empty list leaves nothing to choose from")
        return
    if len(given) != 1 or not set(given) <= {"log_uniform", "uniform"}:
        raise ValueError(f"{key}: give a list, or one of log_uniform: [low, high], uniform: [low, high]")
    ((kind, ends),) = given.items()
    if len(ends) != 2 or not ends[0] < ends[1] or (kind == "log_uniform" and ends[0] <= 0):
        raise ValueError(f"{key}: {kind} needs [low, high] with low < high, above 0 for log_uniform")


def draw(search: SearchSettings, loss: str) -> list[dict[str, Any]]:
    """What each trial of a loss draws: setting -> value. Those of the common space are the same for all losses."""
    from sklearn.model_selection import ParameterGrid, ParameterSampler

    if search.method == "grid":
        return [dict(point) for point in ParameterGrid(search.space)]
    assert search.trials is not None
    draws = [
        list(
            ParameterSampler(_distributions(space), search.trials, random_state=_state(search.seed, purpose))
        )
        for space, purpose in ((search.space, "common"), (search.losses.get(loss, {}), loss))
        if space
    ]
    return [
        {key: _plain(value) for part in parts for key, value in part.items()}
        for parts in _zip(draws, search.trials)
    ]


def _zip(draws: list[list[dict[str, Any]]], trials: int) -> list[list[dict[str, Any]]]:
    """The parts of each trial. A space of lists alone may have fewer combinations than trials: they come again."""
    return [[part[i % len(part)] for part in draws] for i in range(trials)]


def number_of_trials(search: SearchSettings) -> int:
    return len(draw(search, ""))


def _distributions(space: Space) -> dict[str, Any]:
    from scipy import stats

    def one(given: Any) -> Any:
        if isinstance(given, list):
            return given
        ((kind, (low, high)),) = given.items()
        return stats.loguniform(low, high) if kind == "log_uniform" else stats.uniform(low, high - low)

    return {key: one(given) for key, given in space.items()}


def _state(seed: int, purpose: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed} {purpose}".encode()).digest()[:4], "big")


def _plain(value: Any) -> Any:
    """A Python number of four significant digits in place of numpy's."""
    if hasattr(value, "item"):
        value = value.item()
    return float(f"{value:.4g}") if isinstance(value, float) else value
