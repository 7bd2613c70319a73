"""Damaged files of results: each is named by `mlcl verify`, and no number of it reaches a table.

`MLCL_DAMAGES` says how many are tried in all.
"""

from __future__ import annotations

import os
import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mlcl.cli import app
from mlcl.errors import MlclError
from mlcl.records.code import write_definitions
from mlcl.records.collect import collect, is_collected
from mlcl.records.outline import Trial, open_study
from mlcl.records.paths import CellId
from mlcl.records.verify import defects
from mlcl.reporting import load_results
from mlcl.reporting.tables.grid import main_table
from mlcl.reporting.tables.text import comma_separated
from tests.faults.damage import damage
from tests.synthetic import Grid

DAMAGES = int(os.environ.get("MLCL_DAMAGES", "60"))
QUICK = 12


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of a study that are what was written, collected."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        grid = Grid(seeds=[0, 1]).plan().make_all()
        write_definitions(grid.paths.results, "1" * 64, {"mlcl.losses.bce.BCE": "a"})
        collect(open_study("tiny"))
        assert list(defects(open_study("tiny"))) == []
    return folder / "results" / "tiny"


def stored(results: Path) -> list[Path]:
    return sorted(path for path in results.rglob("*") if path.is_file())


def same_name(results: Path, file: Path) -> list[Path]:
    return [other for other in stored(results) if other.name == file.name and other != file]


def table(results: Path) -> str:
    """The main table as `mlcl tables` makes it: collected anew where something changed since it was collected."""
    opened = open_study(results)
    if not is_collected(opened):
        collect(opened, partial=True)
    return comma_separated(main_table(load_results(results)))


def silence(whole: Path, results: Path, seed: int) -> str | None:
    """Damages one file at random; what was damaged, if nothing says so; None if it is named."""
    shutil.rmtree(results, ignore_errors=True)
    shutil.copytree(whole, results)
    expected = table(results)
    draw = random.Random(seed)
    by_name = {}
    for file in stored(results):
        by_name.setdefault(
            file.name if file.suffix != ".json" or "seed" in str(file) else str(file), []
        ).append(file)
    file = draw.choice(by_name[draw.choice(sorted(by_name))])  # each kind of file as often
    what = f"seed {seed}: {damage(file, same_name(results, file), draw)} {file.relative_to(results)}"
    try:
        found = list(defects(open_study(results)))
    except MlclError as error:  # the outline itself
        found = [str(error)]
    if not any(file.name in defect for defect in found):
        return f"{what}: verify finds {found or 'nothing'}"
    try:
        now = table(results)
    except MlclError as error:
        return None if file.name in str(error) else f"{what}: {error}"
    counted = file.name in (results / "cells.csv").read_text(encoding="utf-8")  # named as damaged
    return None if now == expected or counted else f"{what}: another table, and nothing says why"


def test_damages_are_named_in_a_sample(whole: Path, tmp_path: Path) -> None:
    assert [line for seed in range(QUICK) if (line := silence(whole, tmp_path / "results", seed))] == []


@pytest.mark.slow
def test_no_damage_is_accepted_in_silence(whole: Path, tmp_path: Path) -> None:
    assert [
        line for seed in range(QUICK, DAMAGES) if (line := silence(whole, tmp_path / "results", seed))
    ] == []


def test_the_command_names_each_defect_and_fails(grid: Grid) -> None:
    grid.plan().make_all()
    file = grid.paths.record(grid.cells()[0])
    results = str(grid.paths.results.resolve())
    assert CliRunner().invoke(app, ["verify", results]).exit_code == 0
    file.write_text(file.read_text().replace('"map": 0.', '"map": 0.9', 1))
    scores = grid.paths.cell(grid.cells()[1]) / "scores.npz"
    scores.write_bytes(scores.read_bytes()[:100])
    done = CliRunner().invoke(app, ["verify", results])
    assert done.exit_code == 1
    assert len([line for line in done.stdout.splitlines() if "is not what was written" in line]) == 2
    assert str(file) in done.stdout
    assert str(scores) in done.stdout


def test_a_damaged_trial_of_a_search_is_a_defect(grid: Grid) -> None:
    grid.plan().make_all()
    cell = CellId("scenes", "cnn", "bce", "trial-00", 1000)
    grid.make(cell, fingerprint="trial")
    study = open_study("tiny")
    study = study._replace(outline=replace(study.outline, trials=[Trial(cell, "trial", {"epochs": 3})]))
    assert list(defects(study)) == []
    file = grid.paths.record(cell)
    file.write_text(file.read_text().replace('"map": 0.', '"map": 0.9', 1))
    assert [line for line in defects(study) if str(file) in line]


def test_metrics_that_do_not_follow_from_the_scores_are_a_defect(grid: Grid) -> None:
    """A record that was sealed anew after its metrics were changed."""
    from tests.synthetic import edit_record

    grid.plan().make_all()
    cell = grid.cells()[0]
    name, *path = ["map", *_path_to_test(grid, cell)]
    edit_record(grid.paths.cell(cell), "result", "metrics", *path, name, value=0.99)
    found = list(defects(open_study("tiny")))
    assert any(
        f"{grid.paths.record(cell)}: " in line and "is 0.99, and from the scores" in line for line in found
    )


def _path_to_test(grid: Grid, cell: object) -> list[str]:
    """The keys of a record's metrics that lead to those of the test split."""
    from mlcl.records.record import read_record

    metrics = read_record(grid.paths.record(cell)).metrics  # type: ignore[arg-type]
    return ["test"] if "test" in metrics else [next(iter(metrics)), "test"]


def test_records_of_several_versions_of_torch_are_told_in_the_caption(grid: Grid) -> None:
    from tests.synthetic import edit_record

    grid.plan().make_all()
    collect(open_study("tiny"))
    assert "versions of torch" not in main_table(load_results("tiny")).caption
    edit_record(grid.paths.cell(grid.cells()[0]), "run", "versions", value={"torch": "1.13"})
    collect(open_study("tiny"))
    assert "different versions of torch: 1.13 (1), 2.15 (29)." in main_table(load_results("tiny")).caption
