"""A SLURM of one node on this machine, for the tests: munged, slurmctld and slurmd, with made-up CPUs and GPUs.

    python tests/cluster/slurm.py FOLDER       starts one and prints how to reach it; ends with Ctrl-C or SIGTERM

Needs root and Debian's packages slurm-wlm and munge (`apt-get install slurm-wlm munge`), but no systemd and no file
outside FOLDER: the commands of SLURM find the configuration by the variable SLURM_CONF. There is no accounting
database, as on many small clusters. Jobs run as root, without cgroups: requests are counted, not enforced.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol")
CPUS, MEMORY_MB, GPUS = 8, 64_000, 2
SECONDS_TO_START = 30.0

CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmdPort={node_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CryptoType=crypto/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
GresTypes=gpu
ReturnToService=2
MinJobAge=600
KillWait=10
PropagatePrioProcess=1
SchedulerParameters=sched_interval=2,batch_sched_delay=1
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} Gres=gpu:{gpus} State=UNKNOWN
PartitionName=test Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


class Slurm:
    """Started by entering the block, and ended with all its jobs when it is left."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._configuration = folder / "slurm.conf"
        self._daemons: list[subprocess.Popen[bytes]] = []

    @staticmethod
    def reason_against() -> str | None:
        """Why there can be none on this machine; None if there can."""
        if os.geteuid() != 0:
            return "a SLURM of one's own needs root"
        if missing := [program for program in PROGRAMS if shutil.which(program, path=_path()) is None]:
            return f"{missing[0]} is not installed (apt-get install slurm-wlm munge)"
        return None

    @property
    def environment(self) -> dict[str, str]:
        """To be set for whatever talks to this SLURM."""
        return {"SLURM_CONF": str(self._configuration), "PATH": f"{self._folder / 'bin'}:{_path()}"}

    def __enter__(self) -> Slurm:
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._stop()

    def command(self, *command: str, check: bool = True) -> str:
        """What a command of SLURM prints."""
        done = subprocess.run(
            command, env=os.environ | self.environment, capture_output=True, text=True, timeout=60
        )
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr or done.stdout}")
        return done.stdout

    def jobs(self, *fields: str) -> list[list[str]]:
        """The jobs that SLURM remembers, ended ones too: `squeue`'s fields, such as `%i` and `%T`, of each."""
        output = self.command("squeue", "--states=all", "--noheader", f"--format={'|'.join(fields)}")
        return [line.split("|") for line in output.splitlines()]

    def asked(self, job: str) -> dict[str, str]:
        """What a job asked for, by SLURM's names."""
        words = self.command("scontrol", "show", "job", job).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def cancel_all(self) -> None:
        """Ends all jobs, those that wait first."""
        self.command("scancel", "--state=PENDING", "--user=root", check=False)
        self.command("scancel", "--user=root", check=False)
        end = time.monotonic() + 10
        while self.command("squeue", "--noheader", check=False) and time.monotonic() < end:
            time.sleep(0.2)

    def _start(self) -> None:
        for name in ("state", "spool"):
            (self._folder / name).mkdir(parents=True)
        self._folder.chmod(0o755)  # munge refuses a folder that others may write to
        self._start_munge()
        (self._folder / "gres.conf").write_text(f"Name=gpu File={self._gpu_files()}\n")
        host = os.uname().nodename
        port = _free_ports(2)
        self._configuration.write_text(
            CONFIGURATION.format(
                folder=self._folder, host=host, port=port[0], node_port=port[1],
                cpus=CPUS, memory=MEMORY_MB, gpus=GPUS,
            )
        )  # fmt: skip
        self._write_srun()
        self._daemon("slurmctld", "-D", "-c")
        self._daemon("slurmd", "-D", "-c", "-N", host)
        self._wait_until_idle()

    def _start_munge(self) -> None:
        key = self._folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        places = [
            f"--{name}={self._folder / f'munge.{end}'}"
            for name, end in (("socket", "socket"), ("key-file", "key"), ("pid-file", "pid"), ("log-file", "log"),
                              ("seed-file", "seed"))
        ]  # fmt: skip
        self._daemon("munged", "--foreground", "--force", *places)

    def _write_srun(self) -> None:
        """Snakemake's plugin takes the variables of SLURM from the `srun` of a job, that of the configuration too."""
        srun = self._folder / "bin" / "srun"
        srun.parent.mkdir()
        real = shutil.which("srun", path=_path())
        srun.write_text(f"#!/bin/sh\nSLURM_CONF='{self._configuration}' exec {real} \"$@\"\n")
        srun.chmod(0o755)

    def _gpu_files(self) -> str:
        """Device files that stand for GPUs: copies of /dev/null."""
        for number in range(GPUS):
            os.mknod(self._folder / f"gpu{number}", 0o666 | 0o020000, os.makedev(1, 3))
        return f"{self._folder}/gpu[0-{GPUS - 1}]"

    def _daemon(self, *command: str) -> None:
        with (self._folder / f"{command[0]}.out").open("wb") as output:
            self._daemons.append(
                subprocess.Popen(
                    command,
                    env=os.environ | self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )

    def _wait_until_idle(self) -> None:
        end = time.monotonic() + SECONDS_TO_START
        while "idle" not in self.command("sinfo", "--noheader", "--format=%T", check=False):
            dead = [daemon for daemon in self._daemons if daemon.poll() is not None]
            if dead or time.monotonic() > end:
                raise RuntimeError(f"SLURM does not start:\n{self._last_lines()}")
            time.sleep(0.2)

    def _last_lines(self) -> str:
        files = sorted([*self._folder.glob("*.log"), *self._folder.glob("*.out")])
        return "\n".join(
            f"{file.name}: {line}" for file in files for line in file.read_text().splitlines()[-5:]
        )

    def _stop(self) -> None:
        if len(self._daemons) == 3 and all(daemon.poll() is None for daemon in self._daemons):
            self.cancel_all()
        for daemon in reversed(self._daemons):
            daemon.send_signal(signal.SIGTERM)
        for daemon in reversed(self._daemons):
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


def _path() -> str:
    return f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


def _free_ports(count: int) -> Sequence[int]:
    import socket

    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def main() -> None:
    if len(sys.argv) != 2 or (reason := Slurm.reason_against()):
        sys.exit(reason if len(sys.argv) == 2 else __doc__)
    folder = Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with Slurm(folder) as slurm:
        for name, value in slurm.environment.items():
            print(f"export {name}={value}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main()
