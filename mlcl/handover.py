"""Starting a run's warm worker (`mlcl.worker`), and handing it the command of a job.

Loading takes longer than training a small cell. So a run on one machine has one worker (`start`). A job of the run
connects to it before it loads anything itself (`hand_over`), and waits. Where there is no worker, or where it refuses,
the job runs the command itself: on the nodes of a cluster, outside of Linux, and after the worker died.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Sequence
    from types import FrameType

SOCKET = "MLCL_WORKER"
"""The variable that names the worker's socket to the jobs of a run, relative to their working directory. `off`, set
by the user, starts none."""
COMMANDS = ("train", "report")
"""What a worker runs: the commands that need what it has loaded."""


def start(path: Path, package_root: Path) -> subprocess.Popen[bytes] | None:
    """Starts a worker for this process, which ends with it, and names it to the jobs. None where there can be none.

    `path`: of the socket, relative to the working directory. `package_root`: the folder that holds `mlcl`. The worker
    loads nothing before the first cell.
    """
    import subprocess

    # Elsewhere system libraries start threads, and a child is not told when its parent dies.
    if sys.platform != "linux" or os.environ.get(SOCKET) == "off":
        return None
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        try:
            listener.bind(str(path))
        except OSError as error:  # a file system without sockets, a path that is too long
            print(f"mlcl: no warm worker, cells start slower: {path}: {error}", file=sys.stderr)
            return None
        listener.listen(socket.SOMAXCONN)
        search = os.pathsep.join(filter(None, [str(package_root), os.environ.get("PYTHONPATH")]))
        worker = subprocess.Popen(
            [sys.executable, "-m", "mlcl.worker", str(listener.fileno()), str(path)],
            stdin=subprocess.PIPE,  # breaks when this process ends
            env=os.environ | {"PYTHONPATH": search},
            pass_fds=[listener.fileno()],
        )
    os.environ[SOCKET] = str(path)
    return worker


def hand_over(arguments: Sequence[str]) -> int | None:
    """Lets the worker run a command; returns its exit code, or None if the caller has to run it itself."""
    path = os.environ.get(SOCKET)
    if not path or not arguments or arguments[0] not in COMMANDS:
        return None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as worker:
        try:
            worker.connect(path)
            request = {
                "arguments": list(arguments),
                "folder": str(Path.cwd()),
                "environment": dict(os.environ),
                "python": sys.executable,
            }
            socket.send_fds(worker, [b"\n"], [1, 2])
            worker.sendall(json.dumps(request).encode() + b"\n")
        except OSError:
            return None

        stopped = []

        def stop(number: int, frame: FrameType | None) -> None:
            stopped.append(number)
            worker.send(b"stop\n")

        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            answer = worker.makefile("rb").readline()
        except OSError:
            answer = b""
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    if not answer.endswith(b"\n"):
        # The worker died, or does not want it. The caller waits for the cell's lock, if a child still has it.
        return 128 + stopped[0] if stopped else None
    code: int = json.loads(answer)["code"]
    if code < 0:
        print(f"mlcl: the cell's process was ended by {signal.Signals(-code).name}", file=sys.stderr)
        return 128 - code
    return code
