"""One cell in several processes that torchrun starts on two hosts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hosts import Host, two_hosts
from tests.workflow.sandbox import TINY, Sandbox

pytestmark = pytest.mark.slow
Wait = Callable[..., None]
STUDY = "config/default.yaml"
CELL = "digit_scenes/cnn/jaccard/base/seed0"
PORT = "23456"


@pytest.fixture
def hosts() -> Iterator[tuple[Host, Host]]:
    with two_hosts() as hosts:
        yield hosts


def write_study(box: Sandbox, epochs: int = 2, **changes: Any) -> None:
    training = TINY["training"] | {"epochs": epochs}
    compute = {"device": "cpu", "processes": 2}
    box.change_study(
        **({"losses": ["jaccard"], "baselines": [], "training": training, "compute": compute} | changes)
    )


def start(
    box: Sandbox, hosts: tuple[Host, ...], *options: str, by_torchrun: bool = False
) -> list[subprocess.Popen[str]]:
    """`mlcl train` on each of these hosts, which are the first of two."""
    processes = []
    for number, host in enumerate(hosts):
        if by_torchrun:
            where = ["--nnodes", "2", "--node-rank", str(number), "--nproc-per-node", "1"]
            meeting = ["--master-addr", hosts[0].address, "--master-port", PORT]
            launcher, variables = ["-m", "torch.distributed.run", *where, *meeting], {}
        else:
            launcher = []
            variables = {"RANK": str(number), "WORLD_SIZE": "2", "LOCAL_RANK": "0"}
            variables |= {"MASTER_ADDR": hosts[0].address, "MASTER_PORT": PORT}
        command = [sys.executable, *launcher, "-m", "mlcl", "train", STUDY, CELL, *options]
        processes.append(host.start(command, box.folder, box.environment | variables))
    return processes


def ends(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    """Exit code and output of each."""
    outputs = [process.communicate(timeout=240)[0] for process in processes]
    print("\n".join(outputs))
    return [(process.returncode, output) for process, output in zip(processes, outputs, strict=True)]


def record(box: Sandbox) -> dict[str, Any]:
    return json.loads((box.folder / "results/default" / CELL / "metrics.json").read_text())


def log(box: Sandbox) -> str:
    return (box.folder / "cell.log").read_text() if (box.folder / "cell.log").exists() else ""


def process_of(host: Host) -> int:
    """The process of the train command on a host."""
    commands = {
        number: Path(f"/proc/{number}/cmdline").read_bytes().split(b"\0") for number in host.processes()
    }
    return next(number for number, words in commands.items() if b"train" in words)


def test_two_hosts_train_a_cell_as_two_processes_of_one_do(
    fresh: Sandbox, tmp_path: Path, hosts: tuple[Host, Host]
) -> None:
    write_study(fresh)
    assert [code for code, _ in ends(start(fresh, hosts, by_torchrun=True))] == [0, 0]
    alone = Sandbox.new(tmp_path / "alone")
    write_study(alone)
    alone.mlcl("train", STUDY, CELL)
    assert record(fresh)["result"] == record(alone)["result"]
    assert record(fresh)["result"]["status"] == "ok"
    assert record(fresh)["run"]["host"] == hosts[0].name
    assert not list(fresh.folder.rglob("running.json"))
    assert fresh.trained() == 0


def test_a_killed_process_is_named_and_the_cell_goes_on_later(
    fresh: Sandbox, hosts: tuple[Host, Host], wait_until: Wait
) -> None:
    write_study(fresh, epochs=400)
    run = start(fresh, hosts, "--log", "cell.log")
    wait_until(lambda: "epoch   3" in log(fresh), 400)
    os.kill(process_of(hosts[1]), signal.SIGKILL)
    (first, said), _ = ends(run)
    assert first == 128 + signal.SIGTERM
    assert f"nothing was heard of process 2 of 2 (on {hosts[1].name})" in said
    assert not fresh.records()

    again = start(fresh, hosts, "--log", "cell.log")
    wait_until(lambda: "training goes on in epoch" in log(fresh), 400)
    for process in again:  # as a scheduler does before it ends a job
        process.send_signal(signal.SIGTERM)
    assert [code for code, _ in ends(again)] == [128 + signal.SIGTERM] * 2
    assert "the state is saved" in log(fresh)


def test_a_process_that_never_comes_is_named(fresh: Sandbox, hosts: tuple[Host, Host]) -> None:
    write_study(fresh)
    ((code, said),) = ends(start(fresh, hosts[:1], "--join-timeout", "3"))
    assert code == 2
    assert f"process 2 of 2 did not come within 3 s; there are: process 1 of 2 (on {hosts[0].name})" in said
    assert not list(fresh.folder.rglob("running.json"))


def test_another_number_of_processes_is_refused(fresh: Sandbox, hosts: tuple[Host, Host]) -> None:
    write_study(fresh, compute={"device": "cpu", "processes": 3})
    ended = ends(start(fresh, hosts))
    assert [code for code, _ in ended] == [2, 2]
    assert f"{CELL}: compute.processes is 3, but 2 processes were started" in ended[0][1]
    assert not list((fresh.folder / "results").rglob("unfinished"))
