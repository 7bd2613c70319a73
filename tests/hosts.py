"""Two hosts on this machine: network namespaces that a cable joins, each with a host name of its own.

They share the file system. Other than on machines of a cluster, file locks and process numbers reach across.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Host:
    """A host by its namespace and address; its name is the namespace's."""

    name: str
    address: str

    def start(
        self, command: list[str], folder: Path, environment: Mapping[str, str], own: Path | None = None
    ) -> subprocess.Popen[str]:
        """A process of this host. Signals reach the command itself: all before it is replaced by what it starts.

        own: a folder that is empty here, and that the other host does not see.
        """
        mount = 'mount -t tmpfs none "$1" && ' if own is not None else ""
        script = f'hostname "$0" && {mount}shift && exec "$@"'
        before = ["unshare", "--uts", "--mount", "sh", "-c", script, self.name, str(own or "")]
        return subprocess.Popen(
            ["ip", "netns", "exec", self.name, *before, *command],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def processes(self) -> list[int]:
        """The numbers of all that run on this host."""
        done = subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True, timeout=30)
        return [int(number) for number in done.stdout.split()]


@contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    """Skips the test, with the reason, where there can be none."""
    if os.geteuid() != 0 or not (shutil.which("ip") and shutil.which("unshare")):
        pytest.skip("two hosts in network namespaces need root, ip (iproute2) and unshare")
    number = os.getpid() % 60_000
    subnet = f"10.{200 + number // 16_384}.{number // 64 % 256}.{number % 64 * 4}"
    first, last = subnet.rpartition(".")[0], int(subnet.rpartition(".")[2])
    hosts = [
        Host(f"mlcl{number}{letter}", f"{first}.{last + place}") for place, letter in ((1, "a"), (2, "b"))
    ]
    try:
        for host in hosts:
            if failed := _ip("netns", "add", host.name):
                pytest.skip(f"network namespaces cannot be made here: {failed}")
        if failed := _ip("link", "add", hosts[0].name, "netns", hosts[0].name, "type", "veth",
                         "peer", "name", hosts[1].name, "netns", hosts[1].name):  # fmt: skip
            pytest.skip(f"namespaces cannot be joined here: {failed}")
        for host in hosts:
            for command in (
                ("addr", "add", f"{host.address}/30", "dev", host.name),
                ("link", "set", host.name, "up"),
                ("link", "set", "lo", "up"),
            ):
                failed = _ip("-n", host.name, *command)
                assert not failed, failed
        yield hosts[0], hosts[1]
    finally:
        for host in hosts:
            for process in host.processes():
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            _ip("netns", "delete", host.name)


def _ip(*arguments: str) -> str:
    """What the command complains of; empty if it does not."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=30)
    return done.stderr.strip() or "failed" if done.returncode else ""
