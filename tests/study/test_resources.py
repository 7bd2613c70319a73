"""What a cell asks of a cluster's scheduler follows from its settings, from records of cells like it, and from jobs
that a killed run left behind."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlcl.errors import ConfigError
from mlcl.records.paths import StudyPaths
from mlcl.records.record import Record, write_record
from mlcl.records.running import Running
from mlcl.study import gpus
from mlcl.study.plan import Plan, PlannedCell, make_plan
from mlcl.study.resources import CPU_MINUTES, ClusterResources
from mlcl.training.settings import CellSettings

STUDY: dict[str, Any] = {
    "title": "A study",
    "seeds": [0, 1],
    "datasets": {"digit_scenes": {"train": 100, "val": 20, "test": 30}},
    "encoders": {"image": {"cnn": {"width": 4}}},
    "losses": {"bce": None},
    "baselines": ["label_prior"],
    "training": {"epochs": 2, "batch_size": 10},
}
BCE, PRIOR = "digit_scenes/cnn/bce/base/seed0", "digit_scenes/none/label_prior/base/seed0"


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Results in a folder of their own, on a machine without GPUs, whose scheduler has none of our jobs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    gpus.visible.cache_clear()
    scheduler(monkeypatch, tmp_path)
    return tmp_path


def scheduler(monkeypatch: pytest.MonkeyPatch, folder: Path, gres: str = "(null)", jobs: str = "") -> None:
    """Commands of SLURM that say so."""
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    for program, said in (("sinfo", gres), ("squeue", jobs)):
        (programs / program).write_text(f"#!/bin/sh\ncat <<'END'\n{said}\nEND\n")
        (programs / program).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.defpath}")


def plan(**changes: Any) -> Plan:
    Path("mine.yaml").write_text(yaml.safe_dump(STUDY | changes, sort_keys=False))
    return make_plan(Path("mine.yaml"), Path("raw"))


def record(planned: PlannedCell, seconds: float, peak_mb: float) -> None:
    """The record of a cell that took so long and so much memory."""
    assert planned.payload is not None
    result = {
        **planned.payload,
        "id": str(planned.cell.id),
        "fingerprint": planned.fingerprint,
        "dataset": {"examples": {"train": 100, "val": 20, "test": 30}},
        "status": "ok",
        "reason": None,
        "metrics": {"linear": {"test": {"map": 0.5}}},
    }
    run = {"attempt": 1, "wall_seconds": seconds, "peak_memory_mb": peak_mb}
    path = StudyPaths("mine").record(planned.cell.id)
    path.parent.mkdir(parents=True)
    write_record(path, Record(result, run))


def settings(**compute: Any) -> CellSettings:
    return plan(compute=compute).by_id[BCE].cell.settings


def test_each_process_has_its_threads() -> None:
    assert gpus.cpus_needed(settings(threads=3, processes=2)) == 6
    prior = plan(compute={"threads": 3, "processes": 2}).by_id[PRIOR].cell.settings
    assert gpus.cpus_needed(prior) == 3


@pytest.mark.parametrize(
    ("nodes", "request_", "cell", "asked"),
    [
        ("gpu:a100:4", None, BCE, 1),
        ("(null)", None, BCE, 0),
        ("(null)", "gpus", BCE, 1),
        ("gpu:a100:4", "none", BCE, 0),
        ("gpu:a100:4", "gres", PRIOR, 0),
    ],
)
def test_a_gpu_is_asked_for_where_nodes_have_one_and_the_cell_uses_it(
    monkeypatch: pytest.MonkeyPatch, folder: Path, nodes: str, request_: str | None, cell: str, asked: int
) -> None:
    scheduler(monkeypatch, folder, gres=nodes)
    planned = plan()
    assert ClusterResources(planned, request_).gpus(planned.by_id[cell]) == asked


def test_a_cell_for_the_cpu_asks_for_no_gpu(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    scheduler(monkeypatch, folder, gres="gpu:4")
    planned = plan(compute={"device": "cpu"})
    assert ClusterResources(planned).gpus(planned.by_id[BCE]) == 0


@pytest.mark.parametrize(
    ("request_", "count", "form"),
    [
        ("gres", 1, "gpu:1"),
        ("gres:a100", 2, "gpu:a100:2"),
        ("gres", 0, None),
        ("gpus", 1, None),
        (None, 1, None),
    ],
)
def test_the_form_of_gres(request_: str | None, count: int, form: str | None) -> None:
    assert gpus.gres(request_, count) == form


def test_an_unknown_form_is_named() -> None:
    with pytest.raises(ConfigError, match=r"gpu_request=gpu: must be gpus, gres, none or gres:TYPE"):
        gpus.check_gpu_request("gpu")


def test_what_was_measured_is_asked_for_with_a_margin_and_more_at_each_try() -> None:
    record(plan().by_id[BCE], seconds=3000, peak_mb=2000)
    planned = plan()
    other = planned.by_id["digit_scenes/cnn/bce/base/seed1"]
    cluster = ClusterResources(planned)
    assert cluster.minutes(other, 1) == 2 * 50 + 10
    assert cluster.minutes(other, 3) == 3 * (2 * 50 + 10)
    assert cluster.memory_mb(other, 1) == 1.5 * 2000 + 1000
    assert cluster.memory_mb(other, 2) == 2 * (1.5 * 2000 + 1000)


def test_of_an_unknown_cell_enough_is_asked_for() -> None:
    planned = plan()
    cluster = ClusterResources(planned)
    assert cluster.minutes(planned.by_id[BCE], 1) == CPU_MINUTES
    assert 4000 <= cluster.memory_mb(planned.by_id[BCE], 1) < 5000
    assert cluster.minutes(planned.by_id[PRIOR], 1) == 10


def test_a_cell_waits_for_the_jobs_of_a_killed_run_that_make_it(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    comment = "rule_train_wildcards_digit_scenes_cnn_bce_base"
    jobs = [f"11|{folder}|{comment}_0", f"12|{folder}|{comment}_1", f"13|/elsewhere|{comment}_0"]
    scheduler(monkeypatch, folder, jobs="\n".join(jobs))
    planned = plan()
    cluster = ClusterResources(planned)
    assert cluster.after(planned.by_id[BCE], 1) == "--dependency=afterany:11"
    assert cluster.after(planned.by_id[BCE], 2) is None
    assert cluster.after(planned.by_id[PRIOR], 1) is None

    monkeypatch.setenv("SLURM_JOB_ID", "20")  # of a group of cells, which has no cell in its comment
    with Running(planned.paths.unfinished(planned.by_id[BCE].cell.id)):
        assert cluster.after(planned.by_id[BCE], 1) == "--dependency=afterany:11:20"
