"""A request becomes a record; what fails inside a cell becomes its status."""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

import mlcl.study.make
import mlcl.training.launch
from mlcl.cli import app
from mlcl.data import open_dataset
from mlcl.errors import MlclError
from mlcl.evaluation.metrics import evaluate
from mlcl.records.merge import merge
from mlcl.records.record import read_record
from mlcl.study import gpus
from mlcl.study.make import make_cell, prepare_dataset
from mlcl.study.plan import Plan, make_plan

STUDY = {
    "title": "Tiny",
    "seeds": [0],
    "datasets": {"digit_scenes": {"train": 96, "val": 48, "test": 48}},
    "encoders": {"image": {"cnn": {"width": 4}}},
    "losses": ["bce"],
    "training": {"epochs": 1, "batch_size": 32},
    "keep_embeddings": True,
}
CELL = "digit_scenes/cnn/bce/base/seed0"


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """The tiny study, planned and prepared, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLCL_DATA_ROOT", raising=False)
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"):
        monkeypatch.setenv(variable, os.environ.get(variable, "1"))
    Path("tiny.yaml").write_text(yaml.safe_dump(STUDY))
    made = make_plan(Path("tiny.yaml"))
    made.write()
    prepare_dataset(made.paths.dataset_request("digit_scenes"))
    return made


def request(plan: Plan) -> Path:
    return plan.paths.request(plan.by_id[CELL].cell.id)


def folder(plan: Plan) -> Path:
    return plan.paths.cell(plan.by_id[CELL].cell.id)


def test_a_record_is_whole(plan: Plan) -> None:
    record = make_cell(request(plan), io.StringIO())
    content = json.loads((folder(plan) / "metrics.json").read_text())
    assert content.keys() == {"format", "result", "run", "files", "seal"}
    assert content["files"].keys() >= {"scores.npz"}
    assert record.status == "ok"
    assert content["result"]["fingerprint"] == plan.by_id[CELL].fingerprint
    assert content["result"]["settings"]["seed"] == 0
    with np.load(folder(plan) / "scores.npz") as scores:
        for split in ("val", "test"):
            for readout in ("head", "linear"):
                ours, stored = (
                    content["result"]["metrics"][readout][split],
                    scores[f"{readout}_{split}_scores"],
                )
                for metric, value in evaluate(scores[f"{split}_labels"], stored).items():
                    assert ours[metric] == value
                assert len(scores[f"{split}_ids"]) == len(stored) == 48
        assert str(scores["scores_kind"]) == "probability"
    with np.load(folder(plan) / "embeddings.npz") as embeddings:
        assert embeddings["test"].dtype == np.float16
    assert plan.paths.card("digit_scenes").exists()
    assert not list(folder(plan).glob(".*")), "nothing written aside is left"


def test_a_record_has_the_validation_rows_that_the_cell_uses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    datasets = {"digit_scenes": {"train": 96, "val": 48, "test": 48, "val_fraction": 0.25}}
    Path("tiny.yaml").write_text(yaml.safe_dump(STUDY | {"datasets": datasets}))
    made = make_plan(Path("tiny.yaml"))
    made.write()
    prepare_dataset(made.paths.dataset_request("digit_scenes"))
    record = make_cell(request(made), io.StringIO())
    assert record.status == "ok", record.result["reason"]
    assert record.result["dataset"]["examples"] == {"train": 96, "val": 12, "test": 48}
    prepared = open_dataset(Path(json.loads(request(made).read_text())["prepared"]))["val"]
    with np.load(folder(made) / "scores.npz") as scores:
        rows = [list(prepared.ids).index(name) for name in scores["val_ids"]]
        assert len(set(rows)) == len(scores["head_val_scores"]) == 12
        assert np.array_equal(scores["val_labels"], prepared.dense_labels(rows))


def test_a_current_record_is_left_alone(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    first = make_cell(request(plan), io.StringIO())
    monkeypatch.setattr(mlcl.training.launch, "train", None)  # would fail if it were called
    assert make_cell(request(plan), io.StringIO()) == first


def test_what_a_kill_left_is_made_again(plan: Plan) -> None:
    first = make_cell(request(plan), io.StringIO())
    (folder(plan) / "metrics.json").unlink()
    (folder(plan) / "scores.npz").write_bytes(b"half")
    (folder(plan) / ".metrics.123.json").write_text('{"result": {')
    assert make_cell(request(plan), io.StringIO()).result == first.result


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (mlcl.training.events.Diverged("epoch 1, step 2: the loss was nan"), "diverged", "step 2"),
        (MemoryError("no more"), "oom", "MemoryError"),
        (torch.OutOfMemoryError("CUDA out of memory"), "oom", "CUDA"),
        (ValueError("shapes\ndo not fit"), "error", "ValueError: shapes do not fit"),
    ],
)
def test_what_fails_inside_a_cell_is_its_status(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, error: Exception, status: str, told: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(mlcl.training.launch, "train", fail)
    log = io.StringIO()
    record = make_cell(request(plan), log)
    assert record.status == status
    assert told in (record.reason or "")
    assert record.metrics == {}
    assert read_record(folder(plan) / "metrics.json") == record
    assert not (folder(plan) / "scores.npz").exists()
    assert ("Traceback" in log.getvalue()) == (status == "error")


def test_a_retry_that_is_killed_goes_on_though_the_next_plan_does_not_know_of_it(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Kill(BaseException):
        pass

    found: list[list[str]] = []

    def killed(settings: object, dataset: object, report: object, checkpoints: Path) -> None:
        found.append([file.name for file in checkpoints.glob("*")])
        checkpoints.mkdir(exist_ok=True)
        (checkpoints / "training.pt").write_text("state")
        raise Kill

    monkeypatch.setattr(mlcl.training.launch, "train", killed)
    content = json.loads(request(plan).read_text())
    for attempt in (2, 1):
        request(plan).write_text(json.dumps(content | {"attempt": attempt}))
        with pytest.raises(Kill):
            make_cell(request(plan), io.StringIO())
    assert found == [[], ["training.pt"]]

    def fails(settings: object, dataset: object, report: object, checkpoints: Path) -> None:
        raise ValueError("no")

    monkeypatch.setattr(mlcl.training.launch, "train", fails)
    assert make_cell(request(plan), io.StringIO()).status == "error"
    assert not list(folder(plan).rglob("checkpoints-*")), "the next attempt starts over"


def test_reporting_plans_with_the_data_root_of_the_last_run(plan: Plan, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    file = Path("tiny.yaml")
    assert make_plan(file, as_before=True).data_root == Path("raw")
    make_plan(file, elsewhere).write()
    assert make_plan(file, as_before=True).data_root == elsewhere
    assert make_plan(file).data_root == Path("raw")
    assert make_plan(file, tmp_path, as_before=True).data_root == tmp_path


def test_an_allocation_that_cannot_be_had_is_oom(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlcl.training.launch, "train", lambda *_: torch.empty(2**60))
    assert make_cell(request(plan), io.StringIO()).status == "oom"


def test_scores_that_are_not_finite_are_no_result(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlcl.training.outcome import Outcome

    scores = {split: np.full((48, 10), np.nan, dtype=np.float32) for split in ("val", "test")}
    monkeypatch.setattr(mlcl.training.launch, "train", lambda *_: Outcome({"head": scores}))
    assert make_cell(request(plan), io.StringIO()).status == "diverged"


def test_code_that_changed_after_planning_is_refused(plan: Plan) -> None:
    content = json.loads(request(plan).read_text())
    content["made_of"]["code"] = "0" * 64
    request(plan).write_text(json.dumps(content))
    with pytest.raises(MlclError, match="the code changed after the study was planned"):
        make_cell(request(plan), io.StringIO())
    assert not folder(plan).exists()


def test_a_damaged_record_is_named_and_made_again(plan: Plan) -> None:
    old = make_cell(request(plan), io.StringIO())
    file = folder(plan) / "metrics.json"
    file.write_bytes(file.read_bytes()[:200])
    again = make_plan(Path("tiny.yaml"))
    assert "damaged" in again.summary()
    assert str(file) in again.summary()
    again.write()
    assert make_cell(request(plan), io.StringIO()).result == old.result


def test_a_failure_in_the_metrics_is_a_record(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ValueError("no positives")

    monkeypatch.setattr(mlcl.study.make, "metrics_of", fail)
    record = make_cell(request(plan), io.StringIO())
    assert (record.status, record.reason) == ("error", "ValueError: no positives")
    assert [path.name for path in folder(plan).iterdir()] == ["metrics.json"]


def test_a_failure_while_writing_is_a_record(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", fail)
    record = make_cell(request(plan), io.StringIO())
    assert record.status == "error"
    assert "No space left" in (record.reason or "")


def test_a_damaged_dataset_is_a_record_of_each_of_its_cells(plan: Plan) -> None:
    prepared = Path(json.loads(request(plan).read_text())["prepared"])
    (prepared / "card.json").write_text("{")
    record = make_cell(request(plan), io.StringIO())
    assert record.status == "error"
    assert "card.json" in (record.reason or "")


def test_a_gpu_that_cannot_be_asked_costs_no_record(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("CUDA error: no device")

    make_cell(request(plan), io.StringIO())
    (folder(plan) / "metrics.json").unlink()
    monkeypatch.setattr("mlcl.training.distributed.select_device", fail)
    assert make_cell(request(plan), io.StringIO()).run["device"] is None


def test_a_node_whose_cuda_is_broken_leaves_a_record(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    gpus.visible.cache_clear()
    try:
        record = make_cell(request(plan), io.StringIO())
    finally:
        gpus.visible.cache_clear()
    assert record.status == "error"
    assert "CUDA does not work" in str(record.reason)


def test_the_log_of_a_cell_is_kept(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second process that is asked for a cell does not cut off the log of the first, nor does Snakemake, which
    removes a job's log before it starts the job."""
    log = Path("logs/cell.log")
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    for number in range(2):
        log.unlink(missing_ok=True)
        result = CliRunner().invoke(app, ["train", str(request(plan)), "--log", str(log)])
        assert result.exit_code == 0, result.output
        lines = log.read_text().splitlines()
        assert sum(line.endswith(f"process {os.getpid()}, job 77") for line in lines) == number + 1
        assert any(line.startswith("epoch") for line in lines)


def test_one_of_several_processes_that_torchrun_started_does_not_make_the_cell_by_itself(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    place = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    for name, value in place.items():
        monkeypatch.setenv(name, value)
    result = CliRunner().invoke(app, ["train", str(request(plan)), "--join-timeout", "1"])
    assert isinstance(result.exception, MlclError)
    assert "process 2 of 2 did not come within 1 s" in str(result.exception)
    assert not (folder(plan) / "metrics.json").exists()


def test_the_old_record_stays_while_a_new_one_is_made(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    class Kill(BaseException):
        pass

    def killed(*_: object) -> None:
        raise Kill

    old = make_cell(request(plan), io.StringIO())
    content = json.loads(request(plan).read_text())
    request(plan).write_text(json.dumps(content | {"attempt": 2}))
    monkeypatch.setattr(mlcl.training.launch, "train", killed)
    with pytest.raises(Kill):
        make_cell(request(plan), io.StringIO())
    assert read_record(folder(plan) / "metrics.json") == old
    assert (folder(plan) / "scores.npz").exists()
    request(plan).write_text(json.dumps(content))
    assert make_cell(request(plan), io.StringIO()) == old
    assert not (folder(plan) / "unfinished").exists()


def test_deleting_snakemakes_folder_costs_no_training(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    class Kill(BaseException):
        pass

    found: list[bool] = []

    def killed(settings: object, dataset: object, report: object, checkpoints: Path) -> None:
        found.append((checkpoints / "training.pt").exists())
        checkpoints.mkdir(exist_ok=True)
        (checkpoints / "training.pt").write_text("state")
        raise Kill

    monkeypatch.setattr(mlcl.training.launch, "train", killed)
    for _ in range(2):
        shutil.rmtree(".snakemake")
        make_plan(Path("tiny.yaml")).write()
        with pytest.raises(Kill):
            make_cell(request(plan), io.StringIO())
    assert found == [False, True]


def test_records_that_a_study_made_are_merged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plan: Plan
) -> None:
    """Two machines with one seed each, and a second study that shares a cell with the first."""
    machines = {}
    for seed in (0, 1):
        folder = tmp_path / f"machine{seed}"
        folder.mkdir()
        monkeypatch.chdir(folder)
        machines[seed] = made_study("tiny", [seed])
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.chdir(other)
    shared = made_study("second", [2])
    monkeypatch.chdir(tmp_path / "machine0")
    Path("tiny.yaml").write_text(yaml.safe_dump(STUDY | {"seeds": [0, 1, 2]}))
    make_plan(Path("tiny.yaml")).write()
    merged = merge([machines[1], shared], "tiny")
    assert [cell.seed for cell in merged.copied] == [1, 2]
    assert make_plan(Path("tiny.yaml")).counts.complete


def made_study(name: str, seeds: list[int]) -> Path:
    """Plans, prepares and makes it in the working directory; its results folder."""
    file = Path(f"{name}.yaml")
    file.write_text(yaml.safe_dump(STUDY | {"seeds": seeds}))
    made = make_plan(file)
    made.write()
    prepare_dataset(made.paths.dataset_request("digit_scenes"))
    for planned in made.cells:
        make_cell(made.paths.request(planned.cell.id), io.StringIO())
    return made.paths.results.resolve()
