"""Prefetching: the next batches are gathered on the host while the device works on the current one."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def prefetch(
    items: Iterable[Item], make: Callable[[Item], Result], depth: int
) -> Generator[tuple[Item, Result]]:
    """Yields each item with `make(item)`, in order; a thread computes up to `depth` of them in advance.

    With depth 0 there is no thread. An exception raised by `make` is raised where its item would have come.
    """
    if depth == 0:
        for item in items:
            yield item, make(item)
        return
    ready: queue.Queue[tuple[Item, Result] | BaseException | None] = queue.Queue(depth)
    stopped = threading.Event()

    def put(entry: tuple[Item, Result] | BaseException | None) -> bool:
        while not stopped.is_set():
            try:
                ready.put(entry, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for item in items:
                if not put((item, make(item))):
                    return
            put(None)
        except BaseException as error:
            put(error)

    worker = threading.Thread(target=work, name="prefetch", daemon=True)
    worker.start()
    try:
        while (entry := ready.get()) is not None:
            if isinstance(entry, BaseException):
                raise entry
            yield entry
    finally:
        stopped.set()
        worker.join()
