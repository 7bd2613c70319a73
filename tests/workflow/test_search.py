"""A search runs in one run of Snakemake: trials, the choice, then the seeds; interrupted, it goes on and ends alike."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.workflow.sandbox import Sandbox

pytestmark = pytest.mark.slow
SEARCH = {"trials": 2, "space": {"learning_rate": {"log_uniform": [0.001, 0.1]}, "temperature": [0.05, 0.5]}}
ROW = "digit_scenes/cnn/jaccard"


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    box = Sandbox.new(tmp_path_factory.mktemp("search") / "box")
    box.change_study(search=SEARCH, baselines=["label_prior"], losses=["jaccard"])
    box.snakemake("--cores", "2")
    return box


def chosen(box: Sandbox) -> dict:
    return json.loads((box.folder / "results" / "default" / "chosen.json").read_text())


def test_both_stages_run_and_the_outputs_say_what_was_chosen(done: Sandbox) -> None:
    results = done.folder / "results" / "default"
    choice = chosen(done)[ROW]
    record = json.loads((results / ROW / "base" / "seed0" / "metrics.json").read_text())["result"]
    assert record["settings"]["training"]["learning_rate"] == choice["settings"]["learning_rate"]
    assert record["settings"]["loss"]["hyperparameters"]["temperature"] == choice["settings"]["temperature"]
    with (results / "search.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["trial"] for row in rows} == {"trial-00", "trial-01"}
    best = max(rows, key=lambda row: float(row["value"]))
    assert {row["trial"] for row in rows if row["chosen"] == "True"} == {best["trial"]} == {choice["trial"]}
    with (results / "metrics.csv").open(newline="") as file:
        assert {row["variant"] for row in csv.DictReader(file)} == {"base"}, "trials are no results"
    report = (results / "report.html").read_text()
    assert "every loss had 2 trials (random search) of the same space" in report
    assert (results / "figures" / "search-learning-rate.png").exists()
    table = (done.folder / "paper_tables" / "default" / "search.md").read_text()
    assert str(choice["settings"]["learning_rate"]) in table


def test_a_second_run_does_nothing_and_a_new_loss_makes_its_own_cells_only(
    done: Sandbox, tmp_path: Path
) -> None:
    box = done.copy(tmp_path / "box")
    assert box.jobs() == {}
    box.change_study(search=SEARCH, baselines=["label_prior"], losses=["jaccard", "bce"])
    jobs = box.jobs()
    assert (jobs["train"], jobs["choose"]) == (2 + 1, 1), "two trials and a seed of the new loss"


def test_an_interrupted_search_goes_on_and_chooses_the_same(done: Sandbox, tmp_path: Path) -> None:
    box = Sandbox.new(tmp_path / "box")
    box.change_study(search=SEARCH, baselines=["label_prior"], losses=["jaccard"])
    run = subprocess.Popen(
        box.command("--cores", "1"), cwd=box.folder, env=box.environment, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    records = box.folder / "results" / "default" / ROW
    deadline = time.time() + 200
    while not list(records.glob("trial-*/seed1000/metrics.json")) and time.time() < deadline:
        time.sleep(0.2)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    assert not (box.folder / "results" / "default" / "complete.txt").exists()
    box.snakemake("--cores", "2")
    assert chosen(box) == chosen(done)
