"""Studies through a real SLURM of one node (tests/cluster/slurm.py): what is asked for, and whatever stops a job."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from typing import Any

import pytest

from tests.cluster.conftest import ClusterBox
from tests.cluster.slurm import Slurm
from tests.workflow.sandbox import TINY, Sandbox

pytestmark = [pytest.mark.slow, pytest.mark.cluster, pytest.mark.timeout(1500)]

SLOW = '''"""{name}: the loss of the tests, so slow that there is time to stop it."""
import os
import time
from mlcl.losses import PairWeighting

class {name}(PairWeighting):
    paper = "none"
    equation = "none"
    temperature: float = 0.1

    def forward(self, embeddings, labels, references=None):
        time.sleep({seconds} * float(os.environ.get("SLOWNESS", "0")))
        return {loss}
'''
END_TO_END = {"epochs": 1, "batch_size": 32}
COUNTED = "(embeddings @ embeddings.T - labels.float() @ labels.float().T).square().mean()"


def cell(loss: str, encoder: str = "cnn") -> str:
    return f"digit_scenes/{encoder}/{loss}/base/seed0"


def write_loss(box: Sandbox, name: str, seconds: float, loss: str = COUNTED) -> dict[str, Any]:
    """The entry in the study of a loss in a file of its own."""
    class_name = name.title().replace("_", "")
    (box.folder / f"{name}.py").write_text(SLOW.format(name=class_name, seconds=seconds, loss=loss))
    return {"file": f"{name}.py"}


def record(box: Sandbox, cell: str) -> dict[str, Any]:
    return json.loads((box.folder / "results/default" / cell / "metrics.json").read_text())


def log(box: Sandbox, cell: str) -> str:
    path = box.folder / "results/default/logs" / f"{cell}.log"
    return path.read_text() if path.exists() else ""


def epochs_of(box: Sandbox, cell: str) -> int:
    """The last epoch that the cell's log tells of."""
    return max((int(number) for number in re.findall(r"epoch +(\d+)", log(box, cell))), default=0)


def test_whatever_stops_its_jobs_a_study_is_finished(box: ClusterBox, slurm: Slurm) -> None:
    """One study: a cell that fails, one that is requeued, one that is cancelled, a Snakemake that is killed, and a
    restart while jobs still run."""
    requeued, cancelled, fails = cell("requeued"), cell("cancelled"), cell("fails")
    box.change_study(
        losses={
            "requeued": write_loss(box, "requeued", 0.25),
            # A step takes a second and a half: the state is saved that long after the signal.
            "cancelled": write_loss(box, "cancelled", 1.5) | {"training": {"epochs": 12}},
            "fails": write_loss(box, "fails", 0.0, '(embeddings * float("nan")).sum()'),
        },
        baselines=["label_prior"],
        training=TINY["training"] | {"epochs": 80},
        compute={"device": "cpu", "threads": 1},
    )
    first = box.start()
    box.wait_until(lambda: epochs_of(box, requeued) >= 3 and epochs_of(box, cancelled) >= 3)
    ((job, _),) = box.states(requeued)
    slurm.command("scontrol", "requeue", job)
    slurm.command("scancel", box.states(cancelled)[0][0])
    study = box.folder / "config/default.yaml"
    planned = study.read_text()
    study.write_text("not: a study")  # the jobs that start now plan nothing
    box.wait_until(lambda: all("training goes on" in log(box, stopped) for stopped in (requeued, cancelled)))

    study.write_text(planned)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    assert dict(box.states(requeued))[job] == "RUNNING"
    last = box.snakemake(check=False)

    for stopped in (requeued, cancelled):
        print(f"jobs of {stopped}: {box.states(stopped)}")
        print("\n".join(line for line in log(box, stopped).splitlines() if not line.startswith("epoch")))
    assert [state for _, state in box.states(requeued)] == ["COMPLETED", "COMPLETED"]
    for stopped in (requeued, cancelled):
        assert "training goes on" in log(box, stopped)
        *_, (left, _), (new, _) = box.states(stopped)  # the restart's job waits in the queue, not on a node
        assert slurm.asked(new)["StartTime"] >= slurm.asked(left)["EndTime"]
        assert record(box, stopped)["result"]["status"] == "ok"
    assert record(box, fails)["result"]["status"] == "diverged"
    assert last.returncode != 0
    assert "1 of 4 cells failed" in last.stdout
    assert f"{fails}: diverged" in last.stdout
    assert (box.folder / "results/default/report.html").exists()

    other = Sandbox.new(box.folder.with_name("laptop"))
    for file in ("config/default.yaml", "requeued.py", "cancelled.py", "fails.py"):
        (other.folder / file).write_text((box.folder / file).read_text())
    other.mlcl("train", "config/default.yaml", requeued)
    assert record(other, requeued)["result"] == record(box, requeued)["result"]


def test_what_is_asked_for_and_a_node_whose_cuda_is_broken(box: ClusterBox, slurm: Slurm) -> None:
    """The GPUs of this SLURM are copies of /dev/null."""
    bce, prior = cell("bce"), cell("label_prior", encoder="none")
    compute = {"threads": 2, "processes": 2}
    box.change_study(losses=["bce"], baselines=["label_prior"], training=END_TO_END, compute=compute)
    box.snakemake("--until", "train")
    asked = slurm.asked(box.states(bce)[0][0])
    assert asked["NumCPUs"] == "4"
    assert asked["TresPerJob"] == "gres:gpu:2"
    assert asked["NumNodes"] == "1"
    assert asked["TimeLimit"] == "01:01:00"
    assert asked["MinMemoryNode"] == "4100M"
    assert asked["JobName"].startswith("mlcl_")
    asked = slurm.asked(box.states(prior)[0][0])
    assert asked["NumCPUs"] == "2"
    assert "gpu" not in str(asked)
    assert record(box, prior)["result"]["status"] == "ok"
    failed = record(box, bce)["result"]
    assert failed["status"] == "error"
    assert "CUDA does not work" in failed["reason"]

    box.snakemake("retry_failed", "--until", "train", "--config", "gpu_request=gres")
    asked = slurm.asked(box.states(bce)[1][0])
    assert asked["TresPerNode"] == "gres:gpu:2"
    assert "TresPerJob" not in asked
    assert record(box, bce)["run"]["attempt"] == 2
    assert len(box.states(prior)) == 1


def test_a_failed_submission_is_told_and_ctrl_c_cancels_the_jobs(box: ClusterBox) -> None:
    slow = cell("slow")
    box.change_study(
        losses={"slow": write_loss(box, "slow", 0.5)},
        baselines=[],
        training=TINY["training"] | {"epochs": 400},
        compute={"device": "cpu"},
    )
    refused = box.snakemake(
        "--until", "prepare", "--set-resources", "prepare:slurm_partition=none", check=False
    )
    assert refused.returncode != 0
    assert "invalid partition specified: none" in refused.stdout
    run = box.start()
    box.wait_until(lambda: epochs_of(box, slow) >= 1)
    os.killpg(run.pid, signal.SIGINT)
    run.wait(timeout=300)
    box.wait_until(lambda: [state for _, state in box.states(slow)] == ["CANCELLED"])


def test_short_cells_share_a_job(box: ClusterBox, slurm: Slurm) -> None:
    compute = {"device": "cpu"}
    box.change_study(losses=["bce"], baselines=[], seeds=[0, 1, 2], training=END_TO_END, compute=compute)
    box.snakemake("--until", "train", "--groups", "train=cells", "--group-components", "cells=3")
    jobs = [
        job
        for job, folder, said in slurm.jobs("%i", "%Z", "%k")
        if folder == str(box.folder) and "train" in said
    ]
    assert len(jobs) == 1
    asked = slurm.asked(jobs[0])
    assert asked["NumCPUs"] == "1"
    assert asked["MinMemoryNode"] == "4100M"
    assert asked["TimeLimit"] == "12:00:00"
    assert len(box.records()) == 3


def test_srun_starts_the_processes_of_one_cell(box: ClusterBox) -> None:
    compute = {"device": "cpu", "processes": 2}
    box.change_study(losses=["jaccard"], baselines=[], training=END_TO_END, compute=compute)
    train = [sys.executable, "-m", "mlcl", "train", "config/default.yaml", cell("jaccard")]
    run = subprocess.run(
        ["srun", "--ntasks=2", "--mem=8000", *train],
        cwd=box.folder,
        env=box.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    print(run.stdout)
    assert run.returncode == 0
    assert record(box, cell("jaccard"))["result"]["status"] == "ok"
    assert run.stdout.count(f"{cell('jaccard')}: test map") == 1
