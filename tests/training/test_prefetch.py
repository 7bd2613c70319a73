"""Prefetching: results in order, errors in their place, no thread left behind."""

from __future__ import annotations

import threading
import time
from contextlib import closing

import pytest

from mlcl.training.inputs.prefetch import prefetch


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "prefetch"]


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_results_come_in_order(depth: int) -> None:
    def slowly(item: int) -> int:
        time.sleep(0.002 * (item % 3))
        return item * item

    assert list(prefetch(range(20), slowly, depth)) == [(item, item * item) for item in range(20)]
    assert list(prefetch([], slowly, depth)) == []
    assert threads() == []


def test_at_most_depth_results_are_prefetched() -> None:
    made: list[int] = []
    with closing(prefetch(range(100), made.append, 2)) as ahead:
        next(ahead)
        time.sleep(0.3)
        assert len(made) <= 4  # one taken, two ready, one waiting for its place
    assert threads() == []


@pytest.mark.parametrize("depth", [0, 2])
def test_an_error_is_raised_where_its_item_would_have_come(depth: int) -> None:
    def fails(item: int) -> int:
        if item == 3:
            raise ValueError("item 3 cannot be read")
        return item

    ahead = prefetch(range(10), fails, depth)
    assert [next(ahead) for _ in range(3)] == [(0, 0), (1, 1), (2, 2)]
    with pytest.raises(ValueError, match="item 3 cannot be read"):
        next(ahead)
    assert threads() == []


@pytest.mark.parametrize("depth", [1, 3])
def test_no_thread_is_left_after_closing_early(depth: int) -> None:
    with closing(prefetch(range(1000), lambda item: item, depth)) as ahead:
        next(ahead)
        assert len(threads()) == 1
    assert threads() == []


def test_no_thread_is_left_after_an_error_of_the_consumer() -> None:
    def uses() -> None:
        with closing(prefetch(range(1000), lambda item: item, 2)) as ahead:
            for _ in ahead:
                raise RuntimeError

    with pytest.raises(RuntimeError) as caught:
        uses()
    assert caught.value.__traceback__ is not None  # which keeps all that the frames hold
    assert threads() == []
