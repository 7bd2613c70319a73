"""The processes that a launcher (torchrun, srun) started to make one cell together, on one machine or on several.

All are started with the same command, and each finds its place in the environment (`find_place`). Process 0 does what a
single process does: it plans, locks, writes checkpoints and the record. The others wait for its word and take part in
the training (`mlcl.training.launch`). They talk through a store (`torch.distributed.TCPStore`) that process 0, or
torchrun, holds at MASTER_ADDR:MASTER_PORT, and beat there once a second, so that a process that died has a name.

What goes through the store is pickled: as with all of `torch.distributed`, whoever reaches the port is trusted.
"""

from __future__ import annotations

import os
import pickle
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Any

from mlcl.errors import MlclError
from mlcl.training.events import Interrupted

if TYPE_CHECKING:
    from torch.distributed import Store  # type: ignore[attr-defined]

JOIN_TIMEOUT = 300.0
"""Seconds within which all processes of a job must have come."""
GONE_AFTER = 60.0
"""Seconds without a beat after which a process counts as gone."""
BEAT_EVERY = 1.0
"""Seconds between two beats."""
LOOK_EVERY = 0.2
"""Seconds between two looks at what the others said."""
LEAVE_TIMEOUT = 15.0
"""Seconds that process 0 keeps the store open at the end, for the others to read how it ended."""
ANSWER_TIMEOUT = 3600.0
"""Seconds until a request to the store fails. A machine that is gone is noticed by its beats."""

TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
SLURM = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_STEP_NODELIST")
"""What srun sets for each task of a step, in the order of TORCHRUN."""
PORTS = range(20_000, 30_000)
"""From which a step of SLURM gets its port, by its number: below the ports that systems give out by themselves."""


@dataclass(frozen=True)
class Place:
    """Which of a job's processes this one is."""

    rank: int
    size: int
    """The number of processes."""
    local_rank: int
    """Counted on this machine."""
    address: str
    """Of the machine of process 0."""
    port: int
    attempt: str = "0"
    """How often torchrun started all of them anew."""
    store_is_there: bool = False
    """torchrun itself holds the store."""

    def __str__(self) -> str:
        return f"process {self.rank + 1} of {self.size}"


def find_place(environment: Mapping[str, str] = os.environ) -> Place | None:
    """This process's place by the variables of torchrun (RANK, WORLD_SIZE, ...) or else of srun; None where no
    launcher started it beside others. Raises MlclError where a variable is missing or is no number."""
    if int(_number(environment, "WORLD_SIZE", "1")) > 1:
        return Place(
            _number(environment, "RANK"),
            _number(environment, "WORLD_SIZE"),
            _number(environment, "LOCAL_RANK", "0"),
            _text(environment, "MASTER_ADDR"),
            _number(environment, "MASTER_PORT"),
            environment.get("TORCHELASTIC_RESTART_COUNT", "0"),
            environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
        )
    if _number(environment, "SLURM_STEP_NUM_TASKS", "1") > 1:
        step = _number(environment, "SLURM_JOB_ID", "0") * 7 + _number(environment, "SLURM_STEP_ID", "0")
        return Place(
            _number(environment, "SLURM_PROCID"),
            _number(environment, "SLURM_STEP_NUM_TASKS"),
            _number(environment, "SLURM_LOCALID"),
            environment.get("MASTER_ADDR") or first_host(_text(environment, "SLURM_STEP_NODELIST")),
            _number(environment, "MASTER_PORT", str(PORTS[step % len(PORTS)])),
            environment.get("SLURM_RESTART_COUNT", "0"),
        )
    return None


def without_place(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a command that a process of a job starts for itself alone."""
    return {key: value for key, value in environment.items() if key not in (*TORCHRUN, *SLURM)}


def first_host(hosts: str) -> str:
    """The first of a list of hosts as SLURM writes it: `node[03-05,9],gpu1` begins with node03."""
    return re.sub(r"\[(\w+)[^\]]*\]", r"\1", re.split(r",(?![^\[]*\])", hosts)[0])


def _text(environment: Mapping[str, str], name: str) -> str:
    if not (value := environment.get(name)):
        others = ", ".join(key for key in (*TORCHRUN[:2], *SLURM[:2]) if key in environment)
        raise MlclError(
            f"{name} is not set, but {others} is: start the command by torchrun or srun, or set all"
        )
    return value


def _number(environment: Mapping[str, str], name: str, default: str | None = None) -> int:
    text = environment.get(name) or default or _text(environment, name)
    if not text.isdecimal():
        raise MlclError(f"{name} is {text!r}, which is no number")
    return int(text)


class Job:
    """The link between this process and the others of its job, open as long as the block lasts.

    Entering it waits until all have come. Raises MlclError naming those that did not come within `join_timeout`
    seconds. When process 0 leaves the block, the others are told how it ended.
    """

    def __init__(self, place: Place, join_timeout: float = JOIN_TIMEOUT) -> None:
        self.place, self._join_timeout = place, join_timeout
        self._hosts = {place.rank: socket.gethostname()}
        self._beats: dict[int, tuple[bytes, float]] = {}
        """rank -> its last beat, and when that came"""
        self._outbox: list[tuple[float, Exception]] = []
        self._inbox: SimpleQueue[tuple[float, Exception]] = SimpleQueue()
        self._task: bytes | None = None
        self._end: tuple[int, str] | None = None
        self._lost: float | None = None
        """Since when the store has not been there."""
        self._closing = threading.Event()

    @property
    def leads(self) -> bool:
        return self.place.rank == 0

    def __enter__(self) -> Job:
        self._store = self.open_store(self._join_timeout, self.leads and not self.place.store_is_there)
        begun = time.monotonic()
        self._store.set(f"host/{self.place.rank}", self._hosts[self.place.rank])
        self._thread = threading.Thread(target=self._talk, name="job", daemon=True)
        self._thread.start()
        try:
            self._wait_for_all(begun)
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.leads:
            with suppress(Exception):  # the network may be gone
                self._tell_end(_exit_code(error), "".join(str(error).splitlines()[:1]))
        self._closing.set()
        self._thread.join(LOOK_EVERY * 10)

    def open_store(self, timeout: float = ANSWER_TIMEOUT, hold: bool = False) -> Store:
        """A new connection to the store. hold: this process is the one that has it."""
        from torch.distributed import DistError, PrefixStore, TCPStore  # type: ignore[attr-defined]

        place = self.place
        try:
            store = TCPStore(
                place.address, place.port, is_master=hold, wait_for_workers=False,
                timeout=timedelta(seconds=timeout),
            )  # fmt: skip
        except DistError as error:
            where = f"{place.address}:{place.port} (MASTER_ADDR, MASTER_PORT)"
            if hold:
                raise MlclError(f"{place}: cannot listen at {where}: {str(error).splitlines()[0]}") from None
            raise MlclError(
                f"{place}, on {socket.gethostname()}: process 1 does not answer at {where} within {timeout:.0f} s; "
                "is it running, and does the network let this port through?"
            ) from None
        store.set_timeout(timedelta(seconds=ANSWER_TIMEOUT))
        return PrefixStore(f"mlcl/{place.attempt}", store)

    def name(self, rank: int) -> str:
        """For messages."""
        host = f" (on {self._hosts[rank]})" if rank in self._hosts else ""
        return f"process {rank + 1} of {self.place.size}{host}"

    def announce(self, task: Any) -> None:
        """Process 0: what the others are to take part in."""
        _put(self._store, "task", task)

    def wait_for_task(self) -> Any:
        """The others: what process 0 announced; None if it ended without training. Raises as `check`."""
        while self._task is None and self._end is None:
            self.check()
            time.sleep(LOOK_EVERY)
        return pickle.loads(self._task) if self._task is not None else None

    def report(self, at: float, error: Exception) -> None:
        """The others: tells process 0 of an error, which can be pickled, and when it was raised."""
        self._outbox.append((at, error))

    def errors(self) -> list[tuple[float, Exception]]:
        """Process 0: errors of the others since the last call, with their times."""
        errors = []
        with suppress(Empty):
            while True:
                errors.append(self._inbox.get_nowait())
        return errors

    def check(self) -> None:
        """Raises Interrupted if a process that this one depends on has not been heard of for GONE_AFTER seconds: on
        process 0 any other, on the others process 0."""
        if self._end is None:
            self.require_beats(GONE_AFTER)

    def require_beats(self, within: float) -> None:
        """As `check`, with another number of seconds."""
        now = time.monotonic()
        lost = self._lost is not None and not self.leads
        silent = [0] if lost else [rank for rank, (_, seen) in self._beats.items() if now - seen > within]
        if silent:
            names = ", ".join(map(self.name, sorted(silent)))
            since = "any more" if lost else f"for {within:.0f} s"
            raise Interrupted(
                f"nothing was heard of {names} {since}; the same command goes on from the last checkpoint, if there "
                "is one"
            )

    @property
    def is_over(self) -> bool:
        """The others: has process 0 ended?"""
        return self._end is not None

    def wait_for_end(self) -> int:
        """The others: the exit code of process 0, once it has ended. Raises as `check`."""
        while self._end is None:
            self.check()
            time.sleep(LOOK_EVERY)
        return self._end[0]

    def _wait_for_all(self, begun: float) -> None:
        """On process 0, until all have come; on the others, until process 0 beats."""
        expected = range(self.place.size) if self.leads else (0,)
        while missing := [rank for rank in expected if rank not in self._hosts]:
            if self._end is not None:
                raise MlclError(f"{self.place}: process 1 gave up: {self._end[1]}")
            self.check()
            if time.monotonic() - begun > self._join_timeout:
                came = ", ".join(map(self.name, self._hosts))
                raise MlclError(
                    f"{', '.join(f'process {rank + 1}' for rank in missing)} of {self.place.size} did not come within "
                    f"{self._join_timeout:.0f} s; there are: {came}"
                )
            time.sleep(LOOK_EVERY)

    def _tell_end(self, code: int, message: str) -> None:
        """Until all others that live have read it."""
        _put(self._store, "end", (code, message))
        end = time.monotonic() + LEAVE_TIMEOUT
        waiting = [rank for rank in self._hosts if rank != 0]
        while waiting and time.monotonic() < end:
            waiting = [rank for rank in waiting if not self._store.check([f"left/{rank}"])]
            time.sleep(LOOK_EVERY)

    def _talk(self) -> None:
        """Beats, sends and listens, with a connection of its own, until the block is left."""
        try:
            store = self.open_store(self._join_timeout)
            heard, beat = 0, 0.0
            while not self._closing.wait(LOOK_EVERY):
                if time.monotonic() - beat >= BEAT_EVERY:
                    beat = time.monotonic()
                    store.set(f"beat/{self.place.rank}", str(beat))
                    self._listen_for_beats(store)
                while self._outbox:
                    number = store.add("errors", 1)
                    _put(store, f"error/{number}", self._outbox.pop(0))
                if self.leads:
                    while heard < store.add("errors", 0):
                        heard += 1
                        self._inbox.put(pickle.loads(store.get(f"error/{heard}")))
                    continue
                if self._task is None and store.check(["task"]):
                    self._task = store.get("task")
                if self._end is None and store.check(["end"]):
                    self._end = pickle.loads(store.get("end"))
                    store.set(f"left/{self.place.rank}", "")
        except Exception:  # whatever the store raises where its holder is gone
            self._lost = time.monotonic()

    def _listen_for_beats(self, store: Store) -> None:
        now = time.monotonic()
        for rank in range(1, self.place.size) if self.leads else (0,):
            if rank not in self._hosts:
                if not store.check([f"beat/{rank}"]):
                    continue
                self._hosts[rank] = store.get(f"host/{rank}").decode()
            beat = store.get(f"beat/{rank}")
            if rank not in self._beats or self._beats[rank][0] != beat:
                self._beats[rank] = (beat, now)


def _put(store: Store, name: str, value: Any) -> None:
    store.set(name, pickle.dumps(value))  # type: ignore[arg-type]  # bytes, too


def _exit_code(error: BaseException | None) -> int:
    """As the command line ends with (`mlcl.cli`)."""
    match error:
        case None:
            return 0
        case SystemExit(code=int(code)):
            return code
        case SystemExit(code=None):
            return 0
        case Interrupted():
            return 128 + signal.SIGTERM
        case KeyboardInterrupt():
            return 128 + signal.SIGINT
    return 2 if isinstance(error, MlclError) else 1


def interface_to(address: str) -> str | None:
    """The network interface by which this machine reaches an address (IPv4, Linux); None if it cannot be found.

    Gloo takes the interface of the machine's own name instead, which many systems resolve to 127.0.1.1.
    """
    if sys.platform != "linux":
        return None
    import fcntl
    import struct

    get_address = 0x8915  # SIOCGIFADDR
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((address, 9))  # sends nothing
        own = probe.getsockname()[0]
        for _, name in socket.if_nameindex():
            with suppress(OSError):  # an interface without an address
                answer = fcntl.ioctl(probe, get_address, struct.pack("256s", name.encode()))
                if socket.inet_ntoa(answer[20:24]) == own:
                    return name
    return None
