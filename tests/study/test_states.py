"""Plan, status, coverage and collected results say the same of a cell, whatever changed in the study."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from mlcl.cli import app
from mlcl.records.collect import collect
from mlcl.records.coverage import coverage
from mlcl.records.outline import OpenStudy
from mlcl.records.record import Record, write_record
from mlcl.records.status import Counts, study_status
from mlcl.study.plan import Plan, make_plan

FILE = Path("tiny.yaml")
STUDY: dict[str, Any] = {
    "title": "Tiny",
    "seeds": [0, 1],
    "datasets": {"digit_scenes": {"train": 96, "val": 48, "test": 48}},
    "encoders": {"image": {"cnn": {"width": 4}}},
    "losses": {"bce": {}, "jaccard": {"temperature": 0.1}},
    "baselines": ["label_prior"],
    "training": {"epochs": 1, "batch_size": 32},
}
CHANGES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "nothing": lambda study: study,
    "a hyperparameter": lambda study: study | {"losses": {"bce": {}, "jaccard": {"temperature": 0.5}}},
    "a training setting": lambda study: study | {"training": {"epochs": 2, "batch_size": 32}},
    "a dataset setting": lambda study: study | {"datasets": {"digit_scenes": {"train": 97, "val": 48, "test": 48}}},
    "a new seed": lambda study: study | {"seeds": [0, 1, 2]},
    "a new loss": lambda study: study | {"losses": study["losses"] | {"reg": {}}},
    "one loss less": lambda study: study | {"losses": {"bce": {}}},
    "another title": lambda study: study | {"title": "Other"},
    "another order": lambda study: dict(reversed(study.items())),
}  # fmt: skip


def write(study: dict[str, Any]) -> None:
    FILE.write_text(yaml.safe_dump(study, sort_keys=False))


def make_records(plan: Plan) -> None:
    """A record for each planned cell, as if it had been trained."""
    for planned in plan.cells:
        assert planned.payload is not None
        assert planned.fingerprint is not None
        result = {
            "study": plan.study.name, "id": str(planned.cell.id), "fingerprint": planned.fingerprint,
            **planned.payload, "status": "ok", "reason": None, "metrics": {"linear": {"test": {"map": 0.5}}},
            "metrics_source": plan.outline().metrics_source,
        }  # fmt: skip
        write_record(plan.paths.record(planned.cell.id), Record(result, {"attempt": 1, "wall_seconds": 1.0}))


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """A study of 6 cells, all of them made."""
    monkeypatch.chdir(tmp_path)
    write(STUDY)
    plan = make_plan(FILE)
    plan.write()
    make_records(plan)
    return make_plan(FILE)


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.output


@pytest.mark.parametrize("change", CHANGES)
def test_all_say_the_same_after_a_change_of_the_study(made: Plan, change: str) -> None:
    write(CHANGES[change](STUDY))
    plan = make_plan(FILE)
    study = OpenStudy(plan.outline(), plan.paths)
    counts = plan.counts
    assert study_status(study).counts == counts
    assert coverage(study).counts == counts
    assert str(counts) in plan.summary()
    for command, argument in (("status", "tiny.yaml"), ("coverage", "tiny"), ("status", "results/tiny")):
        assert str(counts) in run(command, argument)[1]
    code, _ = run("status", "tiny", "--complete", "done.txt")
    assert (code == 0) == Path("done.txt").exists() == counts.complete == (counts.current == counts.total)
    collect(study, partial=True)
    with made.paths.cells_csv.open(newline="") as file:
        states = Counter(row["state"] for row in csv.DictReader(file) if row["state"] != "skipped")
    assert states == Counter(ok=counts.current, stale=counts.stale, missing=counts.missing) - Counter()


def test_a_changed_hyperparameter_makes_its_cells_stale(made: Plan) -> None:
    write(CHANGES["a hyperparameter"](STUDY))
    assert make_plan(FILE).counts == Counts(total=6, current=4, stale=2, missing=0, unknown=0, failed=0)


def test_metrics_of_stale_records_stand_in_no_table(made: Plan) -> None:
    write(CHANGES["a hyperparameter"](STUDY))
    assert run("tables", "tiny", "--partial")[0] == 0
    assert "jaccard" not in made.paths.metrics_csv.read_text()
    assert "bce" in made.paths.metrics_csv.read_text()


def test_without_partial_stale_cells_are_an_error(made: Plan) -> None:
    write(CHANGES["a hyperparameter"](STUDY))
    code, _ = run("aggregate", "tiny")
    assert code != 0


def test_asking_where_a_study_stands_writes_nothing(made: Plan) -> None:
    write(CHANGES["a new seed"](STUDY))
    before = made.paths.outline.read_bytes()
    for command in ("status", "coverage"):
        run(command, "tiny")
    assert made.paths.outline.read_bytes() == before


def test_a_results_folder_opens_anywhere(made: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for command in (("tables", "--partial"), ("figures",), ("report",)):
        code, output = run(command[0], "tiny", *command[1:])
        assert code == 0, output
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree("results/tiny", elsewhere / "copied")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    folder = elsewhere / "copied"
    for command in ("tables", "figures", "report", "coverage", "status"):
        code, output = run(command, str(folder))
        assert code == 0, output
    assert (folder / "tables" / "main.md").exists()
    assert list((tmp_path / "empty").iterdir()) == []
    from mlcl.reporting import load_results

    assert len(load_results(folder).metrics) == 6
    assert run("diff", str(folder), str(folder))[0] == 0


def test_an_outline_of_another_format_says_what_to_do(made: Plan, tmp_path: Path) -> None:
    content = json.loads(made.paths.outline.read_text())
    shutil.copytree(made.paths.results, tmp_path / "copied")
    for number, message in ((3, "format 3.*update mlcl"), (None, "no format number.*plan the study again")):
        (tmp_path / "copied" / "outline.json").write_text(json.dumps(content | {"format": number}))
        from mlcl.errors import MlclError
        from mlcl.records.outline import open_study

        with pytest.raises(MlclError, match=message):
            open_study(tmp_path / "copied")


def test_datasets_of_one_source_have_titles_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sizes = {"train": 96, "val": 48, "test": 48}
    write(
        STUDY | {"datasets": {f"scenes{k}": {"source": "digit_scenes", "seed": k, **sizes} for k in range(3)}}
    )
    titles = [dataset.title for dataset in make_plan(FILE).outline().datasets.values()]
    assert titles == [f"Digit scenes (scenes{k})" for k in range(3)]
    write(STUDY)
    assert make_plan(FILE).outline().datasets["digit_scenes"].title == "Digit scenes"
