"""The warm worker of a run: a process that has torch and the rest loaded, and forks a child for each command.

A job hands its command over (`mlcl.handover`); the worker (`serve`) forks a child that runs it with the job's working
directory, environment and output, as a process of its own would. A crash costs one cell.

Nothing is left behind. What goes to the job (SIGTERM, SIGINT) reaches the child as SIGTERM, so that it saves its state;
so does the end of the job. When the run ends, also by a kill, the pipe to the worker breaks: it stops its children and
ends. When the worker is killed, the system sends its children SIGTERM.

The parent of all forks must not have threads of its own, and no GPU: it loads modules and computes nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

LOADED = (
    "mlcl.cli", "mlcl.study.make", "mlcl.training.launch", "mlcl.training.inputs.prefetch",
    "mlcl.training.feature_cache", "mlcl.evaluation.knn", "mlcl.reporting.failures", "accelerate", "accelerate.state",
    "mlcl.training.fit", "mlcl.training.heads", "torch.utils.flop_counter", "torch.utils.checkpoint",
    "torch.nested._internal.nested_tensor", "torch.utils.serialization.config", "numpy.random", "ctypes",
    "pydantic.dataclasses", "encodings.cp437",
)  # fmt: skip
"""What nearly every cell imports, besides its own encoder, loss and protocol."""
STOP_SECONDS = 120.0
"""A child that has not ended this long after a SIGTERM is killed."""
REQUEST_SECONDS = 10.0
"""Within which a job has to send its whole request."""
_PR_SET_PDEATHSIG = 1


class _Job:
    """A connection of a job, and the child that runs its command."""

    def __init__(self, connection: socket.socket, pid: int) -> None:
        self.connection, self.pid = connection, pid
        self.stopped: float | None = None

    def stop(self) -> None:
        """SIGTERM, once: a second one would end a child that is saving its state."""
        if self.stopped is None:
            self.stopped = time.monotonic()
            os.kill(self.pid, signal.SIGTERM)

    def kill_if_late(self) -> None:
        if self.stopped is not None and time.monotonic() - self.stopped > STOP_SECONDS:
            os.kill(self.pid, signal.SIGKILL)

    def answer(self, code: int) -> None:
        with self.connection, contextlib.suppress(OSError):  # the job may be gone
            self.connection.sendall(json.dumps({"code": code}).encode() + b"\n")


class Worker:
    """Accepts commands on a listening socket until its standard input ends or a SIGTERM comes."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._jobs: dict[int, _Job] = {}
        """By the child's process id."""
        self._threads: int | None = None
        """Of the cells that this worker takes; the libraries read it when they are loaded."""
        self._sources: dict[Path, tuple[int, int]] = {}
        self._stopping = False
        self._gpus_after_fork: bool | None = None
        """Can a child use the GPUs? Unknown before the first cell that needs one."""
        self._pid = os.getpid()

    def serve(self) -> None:
        """Returns when the run is over and all children have ended."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the jobs pass it on
        wake_up, woken = socket.socketpair()
        wake_up.setblocking(False)
        woken.setblocking(False)
        signal.set_wakeup_fd(wake_up.fileno())
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, self._note)
        with selectors.DefaultSelector() as selector:
            self._selector = selector
            selector.register(self._listener, selectors.EVENT_READ, self._accept)
            selector.register(sys.stdin.fileno(), selectors.EVENT_READ, self._run_is_over)
            selector.register(woken, selectors.EVENT_READ, lambda: woken.recv(4096))
            while self._jobs or not self._stopping:
                for key, _ in selector.select(timeout=5.0 if self._jobs else None):
                    key.data()
                self._reap()
                for job in self._jobs.values() if self._stopping else ():
                    job.stop()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._stopping |= number == signal.SIGTERM

    def _run_is_over(self) -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            self._selector.unregister(sys.stdin.fileno())
            self._stopping = True

    def _reap(self) -> None:
        for pid, job in list(self._jobs.items()):
            job.kill_if_late()
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                del self._jobs[pid]
                if job.connection in self._selector.get_map():
                    self._selector.unregister(job.connection)
                job.answer(os.waitstatus_to_exitcode(status))

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        outputs: list[int] = []
        try:
            request = _receive(connection, outputs)
            if not self._stopping and self._suits(request):
                self._fork(request, outputs, connection)
            else:
                connection.close()  # without an answer: the job runs the command itself
        except Exception as error:
            print(
                f"mlcl: the warm worker did not take a command, its job runs it: {error!r}", file=sys.stderr
            )
            connection.close()
        finally:
            for output in outputs:
                os.close(output)

    def _fork(self, request: Mapping[str, Any], outputs: Sequence[int], connection: socket.socket) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])  # until the child has its own handler
        pid = os.fork()
        if pid == 0:
            self._child(request, outputs)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        job = self._jobs[pid] = _Job(connection, pid)
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._job_says(job))

    def _job_says(self, job: _Job) -> None:
        """A job asks to stop, or is gone: both stop its child."""
        try:
            said = job.connection.recv(4096)
        except OSError:
            said = b""
        if not said:
            self._selector.unregister(job.connection)
        job.stop()

    def _suits(self, request: Mapping[str, Any]) -> bool:
        """Would a process of its own run the same code with the same libraries? Loads them for the first cell."""
        if request["python"] != sys.executable:
            return False
        if request["arguments"][0] != "train":  # worth it only where the libraries are loaded already
            threads_asked = request["environment"].get("OMP_NUM_THREADS")
            return threads_asked == str(self._threads) and self._sources == _sources()
        target = Path(request["folder"], request["arguments"][1])
        settings = json.loads(target.read_text(encoding="utf-8"))["settings"]
        threads = int(settings["compute"]["threads"])
        if self._threads not in (None, threads):
            return False
        if self._threads is None:
            self._sources = _sources()
            self._threads = threads
            _load(request["environment"], threads)
        if self._sources != _sources():  # what is loaded is no longer what the cell would load
            return False
        return _load_parts(settings) == 0 or self._gpus_usable()

    def _gpus_usable(self) -> bool:
        """Not if something that was loaded has touched CUDA, which does not survive a fork. A child tries it once."""
        if self._gpus_after_fork is None:
            if (pid := os.fork()) == 0:
                import torch

                os._exit(0 if torch.cuda.is_available() else 1)
            self._gpus_after_fork = os.waitpid(pid, 0)[1] == 0
        return self._gpus_after_fork

    def _child(self, request: Mapping[str, Any], outputs: Sequence[int]) -> NoReturn:
        """Becomes what the job would have been."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
            _end_with_parent(self._pid)
            self._selector.close()
            self._listener.close()
            for job in self._jobs.values():
                job.connection.close()
            with Path(os.devnull).open("rb") as nothing:
                os.dup2(nothing.fileno(), 0)  # the worker's is the pipe to the run
            for descriptor, output in enumerate(outputs, start=1):
                os.dup2(output, descriptor)
            os.chdir(request["folder"])
            os.environ.clear()
            os.environ.update(request["environment"])
            code = _run(request["arguments"])
        except BaseException:
            traceback.print_exc()
        finally:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os._exit(code)  # not the way of the worker, whose stack this process has inherited


def _receive(connection: socket.socket, outputs: list[int]) -> dict[str, Any]:
    """A job's request; its standard output and error are added to `outputs`."""
    connection.settimeout(REQUEST_SECONDS)
    received, descriptors, _, _ = socket.recv_fds(connection, 1, 2)
    outputs += descriptors
    for output in outputs:
        os.set_inheritable(output, False)
    if received != b"\n" or len(outputs) != 2:
        raise ValueError("not a request")
    with connection.makefile("rb") as stream:
        request: dict[str, Any] = json.loads(stream.readline())
    connection.settimeout(None)
    return request


def _load(environment: Mapping[str, str], threads: int) -> None:
    """What cells import, with the number of threads that they have; and what is the same for all of them."""
    import gc
    from importlib import import_module

    os.environ.update(environment)
    from mlcl.study.fingerprint import metrics_source
    from mlcl.study.make import limit_threads, run_facts

    limit_threads(threads)
    for module in LOADED:
        import_module(module)
    from mlcl.cli import command

    for remembered in (metrics_source, run_facts, command):
        remembered()
    gc.freeze()  # so that collections in a child do not copy the pages that it shares with the worker


def _load_parts(settings: Mapping[str, Any]) -> int:
    """Loads the modules of a cell's protocol, encoder and loss; returns how many GPUs it needs."""
    from importlib import import_module

    from mlcl.study import gpus
    from mlcl.study.code import code_of
    from mlcl.training import protocols
    from mlcl.training.settings import CellSettings

    cell = CellSettings.model_validate(settings)
    protocols.load(cell.protocol)
    if cell.encoder is not None:
        from mlcl import encoders

        import_module(encoders.describe(cell.encoder.name).module)
    if cell.loss is not None and cell.loss.file is None:
        import_module(f"mlcl.losses.{cell.loss.name}")
    code_of(cell)  # remembered: each child compares it with its request
    return gpus.gpus_needed(cell)


def _sources() -> dict[Path, tuple[int, int]]:
    """The source files of both packages, with their times and sizes."""
    import data_prep
    import mlcl

    found = {}
    for package in (mlcl, data_prep):
        for file in Path(package.__file__ or "").parent.rglob("*.py"):
            of_file = file.stat()
            found[file] = (of_file.st_mtime_ns, of_file.st_size)
    return found


def _end_with_parent(parent: int) -> None:
    """SIGTERM for this process when the worker, its parent, dies."""
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def _run(arguments: Sequence[str]) -> int:
    """The command line; returns the exit code."""
    from mlcl.cli import main

    sys.argv = ["mlcl", *arguments]
    try:
        main()
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1


def serve(descriptor: int, path: Path) -> NoReturn:
    """The worker's whole life: on the listening socket `descriptor`, which lies at `path`."""
    code = 1
    try:
        with socket.socket(fileno=descriptor) as listener:
            listener.set_inheritable(False)
            Worker(listener).serve()
        code = 0
    except Exception:
        traceback.print_exc()
    finally:
        path.unlink(missing_ok=True)
        # Taking down what is loaded would take a second and, for frozen objects, print warnings.
        os._exit(code)


if __name__ == "__main__":
    # By its own name: as `__main__` it would be loaded a second time, and shown warnings meant for developers.
    from mlcl import worker

    worker.serve(int(sys.argv[1]), Path(sys.argv[2]))
