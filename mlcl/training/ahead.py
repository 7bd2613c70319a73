"""Batches gathered on the host while the device works on the one before."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def made_ahead(
    items: Iterable[Item], make: Callable[[Item], Made], depth: int
) -> Generator[tuple[Item, Made]]:
    """Each item with what `make` makes of it, in order; up to `depth` are made by a thread beforehand.

    With depth 0, all happens here. An exception in `make` is raised where its item would have come.
    """
    if depth == 0:
        for item in items:
            yield item, make(item)
        return
    ready: queue.Queue[tuple[Item, Made] | BaseException | None] = queue.Queue(depth)
    stopped = threading.Event()

    def put(what: tuple[Item, Made] | BaseException | None) -> bool:
        while not stopped.is_set():
            try:
                ready.put(what, timeout=0.1)
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

    worker = threading.Thread(target=work, name="batches", daemon=True)
    worker.start()
    try:
        while (got := ready.get()) is not None:
            if isinstance(got, BaseException):
                raise got
            yield got
    finally:
        stopped.set()
        worker.join()
