"""The link between the processes of a job: their places, who does not come or dies, and how all of them end."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from mlcl.errors import MlclError
from mlcl.training import job
from mlcl.training.events import Interrupted
from mlcl.training.job import Job, Place, find_place, first_host, interface_to, without_place

TORCHRUN = {"RANK": "2", "WORLD_SIZE": "4", "LOCAL_RANK": "0", "MASTER_ADDR": "node1", "MASTER_PORT": "29500"}
SLURM = {
    "SLURM_PROCID": "3",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_NODELIST": "node[03-04]",
    "SLURM_JOB_ID": "77",
    "SLURM_STEP_ID": "0",
}
ALONE = [
    {},
    {"WORLD_SIZE": "1", "RANK": "0"},
    # The script of a job, and one task of a step: neither is one of several processes.
    {"SLURM_JOB_ID": "77", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"},
    SLURM | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"},
]


def test_a_place_is_found_by_the_variables_of_the_launcher() -> None:
    assert find_place(TORCHRUN) == Place(2, 4, 0, "node1", 29500)
    by_srun = find_place(SLURM)
    assert by_srun is not None
    assert (by_srun.rank, by_srun.size, by_srun.local_rank, by_srun.address) == (3, 4, 1, "node03")
    other_step = find_place(SLURM | {"SLURM_STEP_ID": "1"})
    assert other_step is not None
    assert other_step.port != by_srun.port
    assert find_place(SLURM | TORCHRUN) == find_place(TORCHRUN)  # srun starts torchrun, once on each node
    given = find_place(SLURM | {"MASTER_ADDR": "10.0.0.7", "MASTER_PORT": "1234"})
    assert given is not None
    assert (given.address, given.port) == ("10.0.0.7", 1234)


@pytest.mark.parametrize("environment", ALONE)
def test_a_process_that_no_launcher_started_beside_others_has_none(environment: dict[str, str]) -> None:
    assert find_place(environment) is None


def test_what_a_process_of_a_job_starts_for_itself_has_no_place() -> None:
    kept = {"PATH": "/bin", "SLURM_JOB_ID": "77"}
    for launched in (TORCHRUN, SLURM):
        assert find_place(without_place(kept | launched)) is None
        assert kept.items() <= without_place(kept | launched).items()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"RANK": ""}, "^RANK is not set, but .*WORLD_SIZE is"),
        ({"MASTER_PORT": ""}, "^MASTER_PORT is not set"),
        ({"WORLD_SIZE": "many"}, "^WORLD_SIZE is 'many', which is no number$"),
    ],
)
def test_variables_that_do_not_make_a_place_are_named(change: dict[str, str], message: str) -> None:
    with pytest.raises(MlclError, match=message):
        find_place(TORCHRUN | change)


@pytest.mark.parametrize(
    ("hosts", "first"),
    [
        ("node7", "node7"),
        ("node7,gpu1", "node7"),
        ("node[03-05,9],gpu1", "node03"),
        ("a1-[7,9]-x.edu", "a1-7-x.edu"),
        ("rack[2]gpu[11-12]", "rack2gpu11"),
    ],
)
def test_the_first_of_slurms_hosts(hosts: str, first: str) -> None:
    assert first_host(hosts) == first


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def place(rank: int, port: int, size: int = 2) -> Place:
    return Place(rank, size, 0, "127.0.0.1", port)


def in_background(action: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    """A thread, and the list to which it adds what the action returns or raises."""
    result: list[object] = []

    def run() -> None:
        try:
            result.append(action())
        except BaseException as error:
            result.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, result


def test_process_0_announces_hears_of_errors_and_tells_how_it_ended() -> None:
    port = free_port()

    def other() -> tuple[object, int]:
        with Job(place(1, port)) as mine:
            task = mine.wait_for_task()
            mine.report(7.0, ValueError("row 7"))
            return task, mine.wait_for_end()

    thread, result = in_background(other)

    def first() -> None:
        with Job(place(0, port)) as mine:
            assert mine.name(1) == f"process 2 of 2 (on {socket.gethostname()})"
            mine.announce({"cell": 1})
            heard: list[tuple[float, Exception]] = []
            while not heard:
                heard = mine.errors()
                mine.check()
            assert [(at, str(error)) for at, error in heard] == [(7.0, "row 7")]
            sys.exit(75)

    with pytest.raises(SystemExit):
        first()
    thread.join(20)
    assert result == [({"cell": 1}, 75)]


def test_processes_that_did_not_come_are_named_and_those_that_came_are_told() -> None:
    port = free_port()
    thread, result = in_background(lambda: Job(place(1, port, size=4)).__enter__().wait_for_end())
    with (
        pytest.raises(
            MlclError, match=r"^process 3, process 4 of 4 did not come within 2 s; there are: .*2 of"
        ),
        Job(place(0, port, size=4), join_timeout=2.0),
    ):
        pass
    thread.join(20)
    assert result == [2]


def test_without_process_0_the_others_say_where_they_looked_for_it() -> None:
    port = free_port()
    with pytest.raises(MlclError, match=rf"process 1 does not answer at 127\.0\.0\.1:{port} .* within 1 s"):
        Job(place(1, port), join_timeout=1.0).__enter__()


def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(MlclError, match=rf"process 1 of 2: cannot listen at 127\.0\.0\.1:{port}"):
            Job(place(0, port), join_timeout=1.0).__enter__()


DIES = """
import os, sys
from mlcl.training.job import Job, Place
with Job(Place(int(sys.argv[1]), 2, 0, "127.0.0.1", int(sys.argv[2]))):
    os._exit(0)
"""


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_died_is_named(rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "GONE_AFTER", 3.0)
    monkeypatch.setattr(job, "LEAVE_TIMEOUT", 0.5)
    port = free_port()

    def survivor() -> None:
        with Job(place(1 - rank, port)) as mine:
            while True:
                mine.check()

    with (
        subprocess.Popen([sys.executable, "-c", DIES, str(rank), str(port)]),
        pytest.raises(Interrupted, match=f"^nothing was heard of process {rank + 1} of 2 "),
    ):
        survivor()


@pytest.mark.skipif(sys.platform != "linux", reason="interfaces are looked up on Linux only")
def test_the_interface_by_which_an_address_is_reached() -> None:
    assert interface_to("127.0.0.1") == "lo"
    assert interface_to("no.such.host.invalid") is None


def test_looking_for_a_place_loads_no_torch(tmp_path: Path) -> None:
    code = "import sys; from mlcl.training.job import find_place; find_place({}); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=os.environ)
