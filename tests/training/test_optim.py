"""Optimizers and schedules by name, against their formulas."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import nn

from mlcl.encoders.base import Encoder
from mlcl.training import optim
from mlcl.training.methods import Untrained
from mlcl.training.optim import MovingAverage
from mlcl.training.settings import TrainingSettings


def rates(steps: int, **settings: Any) -> list[float]:
    """The learning rate of each step, as the loop takes them."""
    given = {"learning_rate": 2.0, "warmup": 0.0} | settings
    optimizer, schedule = optim.create(nn.Linear(2, 2), TrainingSettings(**given), steps)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_constant_linear_and_cosine() -> None:
    assert rates(5, schedule="constant") == [2.0] * 5
    assert rates(4, schedule="linear") == pytest.approx([2.0, 1.5, 1.0, 0.5])
    cosine = [1 + math.cos(math.pi * step / 8) for step in range(8)]
    assert rates(8, schedule="cosine") == pytest.approx(cosine)
    assert rates(1, schedule="cosine") == [2.0]


def test_warmup_reaches_the_full_rate_and_the_schedule_follows() -> None:
    assert rates(10, schedule="constant", warmup=0.4)[:5] == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0])
    found = rates(100, schedule="cosine", warmup=0.07)  # 0.07 * 100 > 7 in floating-point numbers
    assert found[:8] == pytest.approx([2 * (step + 1) / 7 for step in range(7)] + [2.0])
    assert found[7:] == pytest.approx([1 + math.cos(math.pi * step / 93) for step in range(93)])
    assert rates(10, schedule="linear", warmup=0.99) == pytest.approx(
        [0.2 * (step + 1) for step in range(10)]
    )


@pytest.mark.parametrize("warmup", [0.1, 0.2, 0.5])
def test_one_cycle(warmup: float) -> None:
    found = rates(200, schedule="one_cycle", warmup=warmup)
    assert found[0] == pytest.approx(2 / 25)
    assert found.index(max(found)) == round(warmup * 200) - 1
    assert max(found) == pytest.approx(2.0)
    assert found[-1] < 1e-4
    peak = found.index(max(found))
    assert found[: peak + 1] == sorted(found[: peak + 1])
    assert found[peak:] == sorted(found[peak:], reverse=True)


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 7])
@pytest.mark.parametrize("warmup", [0.0, 0.05, 0.2, 0.5, 0.99])
@pytest.mark.parametrize("schedule", ["constant", "cosine", "linear", "one_cycle"])
def test_schedules_of_few_steps(steps: int, warmup: float, schedule: str) -> None:
    found = rates(steps, schedule=schedule, warmup=warmup)
    assert len(found) == steps
    assert all(0 < rate <= 2.0 or (schedule == "one_cycle" and rate >= 0) for rate in found)
    assert max(found) > 0


@pytest.mark.parametrize(
    ("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)]
)
def test_by_name(name: Any, kind: type) -> None:
    optimizer, _ = optim.create(nn.Linear(2, 2), TrainingSettings(optimizer=name), 10)
    assert isinstance(optimizer, kind)
    if name == "sgd":
        assert optimizer.param_groups[0]["momentum"] == 0.9


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_a_fused_step_is_that_of_the_formula(name: Any, channels_last: bool) -> None:
    """Also where weights lie in memory in another order: the fused kernels go through the raw memory."""
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 2))
    if channels_last:
        layers.to(memory_format=torch.channels_last)
    plain = deepcopy(layers)
    settings = TrainingSettings(
        optimizer=name, learning_rate=0.01, weight_decay=0.1, schedule="constant", warmup=0
    )
    fused, _ = optim.create(layers, settings, 5)
    groups = [{"params": [p for p in plain.parameters() if p.ndim > 1], "weight_decay": 0.1}]
    groups += [{"params": [p for p in plain.parameters() if p.ndim <= 1], "weight_decay": 0.0}]
    momentum = {"momentum": 0.9} if name == "sgd" else {}
    kinds: dict[str, Callable[..., torch.optim.Optimizer]] = {
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
        "sgd": torch.optim.SGD,
    }
    reference = kinds[name](groups, lr=0.01, foreach=False, **momentum)
    for _ in range(5):
        inputs = torch.randn(6, 3, 4, 4)
        for modules, optimizer in ((layers, fused), (plain, reference)):
            optimizer.zero_grad()
            modules(inputs).square().sum().backward()
            optimizer.step()
    for ours, expected in zip(layers.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)


def test_one_dimensional_parameters_do_not_decay_and_frozen_ones_are_left_out() -> None:
    modules = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    modules[2].weight.requires_grad_(False)
    optimizer, _ = optim.create(modules, TrainingSettings(weight_decay=0.3), 10)
    decayed, kept = optimizer.param_groups
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.3, 0.0)
    assert [id(p) for p in decayed["params"]] == [id(modules[0].weight)]
    assert {id(p) for p in kept["params"]} == {
        id(p) for p in (modules[0].bias, modules[1].weight, modules[1].bias, modules[2].bias)
    }


class Counting(Encoder):
    feature_dim = 2

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))
        self.register_buffer("mean", torch.zeros(1))
        self.register_buffer("count", torch.tensor(0))
        self.register_buffer("seen", torch.tensor(False))


def test_the_moving_average_follows_the_formula_from_the_initial_weights() -> None:
    encoder = Counting()
    method = Untrained(encoder)
    average, expected = MovingAverage(method, 0.9), 0.0
    for step in range(1, 6):
        with torch.no_grad():
            encoder.weight.fill_(step)
            encoder.mean.fill_(-step)
        encoder.count.fill_(step)
        encoder.seen.fill_(True)
        average.update(method, step)
        expected = 0.9 * expected + 0.1 * step
    followed = average.method.encoder
    assert torch.allclose(followed.weight, torch.full((2,), expected))
    assert float(followed.mean) == pytest.approx(-expected)
    assert int(followed.count) == 5
    assert bool(followed.seen)
    assert encoder.weight.tolist() == [5.0, 5.0]
    again = MovingAverage(method, 0.9)
    again.load_state_dict(average.state_dict())
    assert torch.equal(again.method.encoder.weight, followed.weight)


def test_the_decay_of_the_moving_average_warms_up() -> None:
    """TensorFlow's rule, min(decay, (1 + t) / (10 + t)): 2/11, 3/12, 4/13, ... and then the decay itself."""
    encoder = Counting()
    method = Untrained(encoder)
    average, expected = MovingAverage(method, 0.3, warmup=True), 0.0
    for step in range(1, 6):
        with torch.no_grad():
            encoder.weight.fill_(step)
        average.update(method, step)
        decay = [2 / 11, 3 / 12, 0.3, 0.3, 0.3][step - 1]
        expected = decay * expected + (1 - decay) * step
    assert torch.allclose(average.method.encoder.weight, torch.full((2,), expected))
