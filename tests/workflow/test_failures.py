"""What fails inside a cell is a result; what is wrong before training stops the run with one message."""

from __future__ import annotations

import json

import pytest

from tests.workflow.sandbox import TINY, Sandbox

TURNS_NAN = '''"""A loss that is no number."""
from mlcl.losses import PairWeighting

class TurnsNan(PairWeighting):
    paper = "none"
    equation = "nan"
    temperature: float = 0.1

    def forward(self, embeddings, labels, references=None):
        return (embeddings * float("nan")).sum()
'''


@pytest.mark.slow
def test_one_failing_cell_of_four(fresh: Sandbox) -> None:
    (fresh.folder / "turns_nan.py").write_text(TURNS_NAN)
    fresh.change_study(losses={"bce": {}, "turns_nan": {"file": "turns_nan.py"}})
    run = fresh.snakemake(check=False)
    assert run.returncode != 0
    assert "1 of 4 cells failed" in run.stdout
    assert "turns_nan/base/seed0: diverged" in run.stdout
    cell = fresh.folder / "results/default/digit_scenes/cnn/turns_nan/base/seed0"
    record = json.loads((cell / "metrics.json").read_text())
    assert record["result"]["status"] == "diverged"
    assert "nan" in record["result"]["reason"]
    assert record["result"]["metrics"] == {}
    assert not (cell / "scores.npz").exists()
    assert (fresh.folder / "results/default/report.html").exists()
    assert "diverged" in (fresh.folder / "paper_tables/default/main.md").read_text()

    again = fresh.snakemake(check=False)
    assert again.returncode != 0, "a run with failed cells stays failed"
    assert fresh.jobs("retry_failed")["train"] == 1
    assert fresh.trained() == 0, "asking what a retry would do changes nothing"

    (fresh.folder / "turns_nan.py").write_text(TURNS_NAN.replace('float("nan")', "0"))
    fresh.snakemake("retry_failed")
    record = json.loads((cell / "metrics.json").read_text())
    assert record["result"]["status"] == "ok"
    assert fresh.jobs() == {}


@pytest.mark.slow
def test_retrying_runs_the_failed_cells_once_more(fresh: Sandbox) -> None:
    (fresh.folder / "turns_nan.py").write_text(TURNS_NAN)
    fresh.change_study(losses={"turns_nan": {"file": "turns_nan.py"}}, baselines=[])
    assert fresh.snakemake(check=False).returncode != 0
    retried = fresh.snakemake("retry_failed", check=False)
    assert retried.returncode != 0
    record = json.loads(fresh.records()[0].read_text())
    assert record["run"]["attempt"] == 2


def test_another_study_gets_nothing_of_the_default(box: Sandbox) -> None:
    other = {key: value for key, value in TINY.items() if key != "baselines"} | {"losses": ["mulsupcon"]}
    box.write_study("other", other)
    assert box.trained("--config", "study=config/other.yaml") == 1
    assert not (box.folder / "results" / "other").exists(), "a dry run writes nothing"
    box.mlcl("tables", "config/other.yaml", "--partial")
    outline = json.loads((box.folder / "results/other/outline.json").read_text())
    assert [cell["id"] for cell in outline["cells"]] == ["digit_scenes/cnn/mulsupcon/base/seed0"]
    assert outline["baselines"] == []


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (TINY | {"losses": ["jacard"]}, ["config/default.yaml", "losses.jacard", "did you mean jaccard"]),
        (TINY | {"training": {"epochs": "many"}}, ["config/default.yaml", "training.epochs"]),
        ("title: [", ["config/default.yaml", "YAML"]),
    ],
)
def test_a_wrong_study_stops_before_anything_is_made(
    fresh: Sandbox, content: object, told: list[str]
) -> None:
    if isinstance(content, str):
        (fresh.folder / "config/default.yaml").write_text(content)
    else:
        fresh.write_study("default", content)
    run = fresh.snakemake(check=False)
    assert run.returncode != 0
    assert all(part in error_line(run.stdout) for part in told), run.stdout
    assert not (fresh.folder / "results").exists()


def test_missing_raw_files_stop_the_run(fresh: Sandbox) -> None:
    study = TINY | {
        "datasets": {"goemotions": {}},
        "encoders": {"text": {"transformer": {}}},
        "baselines": [],
    }
    fresh.write_study("emotions", study)
    run = fresh.snakemake("--config", "study=config/emotions.yaml", "data_root=nowhere", check=False)
    assert run.returncode != 0
    for part in ("train.tsv", "nowhere/goemotions", "http"):
        assert part in error_line(run.stdout), run.stdout
    assert not (fresh.folder / "results" / "emotions" / "goemotions").exists()


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("stduy=config/default.yaml", "--config stduy=...: unknown"),
        ("data_root=20241001", "read the value as 20241001 (int), not as text"),
        ("data_root=0", "read the value as 0 (int), not as text"),
        ("study=2024", "study=./NAME"),
        ("gpu_request=5", "--config gpu_request"),
    ],
)
def test_a_wrong_config_of_the_command_line_is_an_error(box: Sandbox, setting: str, told: str) -> None:
    """Snakemake makes a number of what looks like one."""
    run = box.snakemake("-n", "--config", setting, check=False)
    assert run.returncode != 0
    assert told in error_line(run.stdout)


def error_line(output: str) -> str:
    """The one line that a run stops with. Fails where there are several, or a traceback around it."""
    assert "Traceback" not in output
    assert 'File "' not in output, output
    (line,) = [line for line in output.splitlines() if line.startswith("mlcl: ")]
    assert output.rstrip().endswith(line)
    return line
