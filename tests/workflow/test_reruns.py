"""What is made again after a change, and what is not: by the job counts of dry runs."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from tests.workflow.sandbox import TINY, Sandbox

MINE = '''"""Dice coefficient of the label sets."""
from mlcl.losses import PairWeighting

class Dice(PairWeighting):
    paper = "none"
    equation = "2 shared / (|y_i| + |y_k|)"
    temperature: float = 0.1

    def weights(self, pairs):
        return 2 * pairs.shared / (pairs.anchor_sizes + pairs.reference_sizes).clamp_min(1)
'''
REPORTING = {"report": 1, "complete": 1, "all": 1}


def test_nothing_is_left_to_do_after_a_run(box: Sandbox) -> None:
    assert box.jobs() == {}


def test_a_new_loss_trains_its_cells_and_nothing_else(box: Sandbox) -> None:
    (box.folder / "mlcl" / "losses" / "dice_of_mine.py").write_text(MINE)
    box.change_study(losses=["bce", "jaccard", "dice_of_mine"])
    assert box.jobs() == {"train": 1, **REPORTING}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_files_dated_in_the_future_cost_no_record(tmp_path: Path) -> None:
    """Of a machine whose clock is ahead, or unpacked with their times: Snakemake takes them for clock skew."""
    box = Sandbox.new(tmp_path / "box")
    box.timeout = 900.0
    rows = "".join(f"{number},{number % 7},{number % 2},{number % 3 == 0:d}\n" for number in range(60))
    (box.folder / "t.csv").write_text(f"x,y,a,b\n{rows}")
    (box.folder / "mine.py").write_text(MINE)
    box.change_study(
        datasets={
            "points": {"source": "vectors", "path": str(box.folder / "t.csv"), "label_columns": ["a", "b"]}
        },
        encoders={"vector": {"mlp": {"hidden": [4]}}},
        losses={"bce": {}, "mine": {"file": "mine.py"}},
        baselines=["label_prior"],
    )
    tomorrow = time.time() + 86_400
    for path in box.folder.rglob("*"):
        os.utime(path, (tomorrow, tomorrow))
    output = box.snakemake("--cores", "1").stdout
    assert "skew" not in output
    records = {path: path.read_bytes() for path in box.records()}
    assert len(records) == 3
    for path in (
        box.folder / "t.csv",
        box.folder / "mine.py",
        *box.folder.glob("results/.prepared/*/*.json"),
    ):
        os.utime(path, (tomorrow, tomorrow))
    assert box.jobs() == {}
    assert "skew" not in box.snakemake("--cores", "1").stdout
    assert {path: path.read_bytes() for path in box.records()} == records


@pytest.mark.slow
def test_a_loss_in_a_file_of_ones_own(box: Sandbox) -> None:
    (box.folder / "my_losses").mkdir()
    (box.folder / "my_losses" / "mine.py").write_text(MINE)
    box.change_study(losses={"bce": {}, "jaccard": {}, "mine": {"file": "my_losses/mine.py"}})
    assert box.jobs() == {"train": 1, **REPORTING}
    box.snakemake()
    assert "mine" in (box.folder / "results" / "default" / "metrics.csv").read_text()
    box.edit("my_losses/mine.py", "2 * pairs.shared", "3 * pairs.shared")
    assert box.trained() == 1


def test_a_file_of_ones_own_must_not_take_a_known_name(box: Sandbox) -> None:
    (box.folder / "jaccard.py").write_text(MINE)
    box.change_study(losses={"jaccard": {"file": "jaccard.py"}})
    result = box.snakemake("-n", check=False)
    assert result.returncode != 0
    assert "jaccard" in result.stdout
    assert "Traceback" not in result.stdout


def test_editing_a_loss_retrains_its_cells_only(box: Sandbox) -> None:
    box.edit("mlcl/losses/jaccard.py", "pairs.shared / (", "pairs.shared * 2 / (")
    assert box.trained() == 1


def test_a_setting_of_a_loss_retrains_its_cells_only(box: Sandbox) -> None:
    box.change_study(losses={"bce": {}, "jaccard": {"temperature": 0.2}})
    assert box.trained() == 1


def test_comments_docstrings_and_layout_retrain_nothing(box: Sandbox) -> None:
    path = box.folder / "mlcl" / "losses" / "jaccard.py"
    path.write_text(path.read_text().replace('"""Positives', '"""All positives') + "\n# a comment\n")
    path = box.folder / "mlcl" / "training" / "loop.py"
    path.write_text("# a comment\n\n" + path.read_text())
    assert box.trained() == 0


def test_touching_any_file_retrains_nothing(box: Sandbox) -> None:
    for path in box.folder.rglob("*"):
        if path.is_file() and ".snakemake" not in path.parts[len(box.folder.parts) :][:1]:
            os.utime(path)
    assert box.trained() == 0
    assert box.jobs().get("prepare", 0) == 0


def test_touching_the_bookkeeping_retrains_nothing(box: Sandbox) -> None:
    for path in (box.folder / ".snakemake" / "mlcl").rglob("*"):
        if path.is_file():
            os.utime(path)
    assert box.trained() == 0


def test_reordering_the_study_retrains_nothing(box: Sandbox) -> None:
    box.write_study("default", {**dict(reversed(TINY.items())), "losses": ["jaccard", "bce"]})
    assert box.trained() == 0


def test_a_new_seed_trains_only_its_cells(box: Sandbox) -> None:
    box.change_study(seeds=[0, 7])
    assert box.trained() == len(box.records())


def test_editing_the_loop_retrains_what_is_trained_and_says_so(box: Sandbox) -> None:
    """All but the two baselines, which nothing trains."""
    box.edit("mlcl/training/loop.py", "or math.inf", "or math.pi")
    result = box.snakemake("-n")
    assert "the code changed (mlcl.training.loop.TrainingRun) (2)" in result.stdout
    assert box.trained() == len(box.records()) - 2


def test_editing_reporting_and_the_command_line_retrains_nothing(box: Sandbox) -> None:
    for file in ("mlcl/cli/common.py", "mlcl/reporting/report.py", "mlcl/study/runlock.py"):
        path = box.folder / file
        path.write_text(path.read_text() + "\nADDED = 1\n")
    jobs = box.jobs()
    assert "train" not in jobs
    assert jobs["report"] == 1


def test_a_lost_snakemake_history_retrains_nothing(box: Sandbox) -> None:
    shutil.rmtree(box.folder / ".snakemake")
    assert box.trained() == 0


def test_records_copied_without_their_data_retrain_and_prepare_nothing(box: Sandbox, tmp_path: Path) -> None:
    shutil.rmtree(box.folder / ".snakemake")
    shutil.rmtree(box.folder / "results" / ".prepared")
    assert box.jobs().keys() <= REPORTING.keys()


def test_a_stale_record_is_found_without_snakemakes_history(box: Sandbox) -> None:
    shutil.rmtree(box.folder / ".snakemake")
    box.change_study(losses={"bce": {}, "jaccard": {"temperature": 0.2}})
    assert box.trained() == 1


def test_metrics_are_computed_anew_without_training(box: Sandbox) -> None:
    box.edit("mlcl/evaluation/metrics.py", "BLOCK = 4_000_000", "BLOCK = 2_000_000")
    assert box.jobs() == REPORTING
    changed = (
        box.folder
        / "results"
        / "default"
        / "digit_scenes"
        / "cnn"
        / "bce"
        / "base"
        / "seed0"
        / "metrics.json"
    )
    trained = json.loads(changed.read_text())
    before = (box.folder / "results" / "default" / "metrics.csv").read_text()
    box.snakemake("--until", "report")
    assert (box.folder / "results" / "default" / "metrics.csv").read_text() == before
    scored = json.loads(changed.read_text())
    assert scored["run"] == trained["run"]
    assert scored["result"]["metrics_source"] != trained["result"]["metrics_source"]
    assert box.trained() == 0


def test_cells_that_another_study_in_the_folder_has_are_copied(box: Sandbox) -> None:
    training = TINY["training"] | {"epochs": 2}
    box.write_study("other", TINY | {"title": "Another", "variants": {"longer": {"training": training}}})
    box.snakemake("--until", "train", "--config", "study=config/other.yaml")
    folders = {name: box.folder / "results" / name for name in ("default", "other")}
    for record in folders["default"].glob("*/*/*/base/seed0/metrics.json"):
        before = json.loads(record.read_text())
        copied = folders["other"] / record.relative_to(folders["default"])
        content = json.loads(copied.read_text())
        assert content["result"] == before["result"] | {"study": "other"}
        assert content["run"] == before["run"] | {"copied_from": "default"}
        assert copied.with_name("scores.npz").read_bytes() == record.with_name("scores.npz").read_bytes()
    made = [
        json.loads(record.read_text()) for record in folders["other"].glob("*/*/*/longer/seed0/metrics.json")
    ]
    assert made
    assert not any("copied_from" in record["run"] for record in made)
    assert "all is as written" in box.mlcl("verify", "config/other.yaml").stdout


def test_paper_tables_never_prepare_or_train(box: Sandbox, fresh: Sandbox) -> None:
    assert fresh.jobs("paper_tables") == {"paper_tables": 1}
    box.edit("mlcl/training/loop.py", "or math.inf", "or math.pi")
    assert box.jobs("paper_tables") == {"paper_tables": 1}


def test_paper_tables_from_copied_records_without_torch_or_data(finished: Sandbox, fresh: Sandbox) -> None:
    lost = finished.records()[0]
    for record in finished.records()[1:]:
        target = fresh.folder / record.parent.relative_to(finished.folder)
        shutil.copytree(record.parent, target)
    (fresh.folder / "torch.py").write_text("raise ImportError('torch is not installed here')\n")
    fresh.snakemake("paper_tables")
    table = (fresh.folder / "paper_tables" / "default" / "main.csv").read_text()
    cells = (fresh.folder / "results" / "default" / "cells.csv").read_text()
    assert "jaccard" in table.lower() or "L_Base" in table
    missing = [line for line in cells.splitlines() if ",missing," in line]
    assert len(missing) == 1
    assert lost.parts[-4] in missing[0]
