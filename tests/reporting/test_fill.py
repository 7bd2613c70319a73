"""Kept results of parts become those of the whole, and nothing that was made otherwise comes in."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mlcl.cli import app
from mlcl.errors import MlclError
from mlcl.records.collect import collect, require_collected
from mlcl.records.outline import SearchOutline, Trial, open_study, write_outline
from mlcl.records.paths import CellId
from mlcl.reporting import keep as keeping
from mlcl.reporting import load_results
from mlcl.reporting.fill import fill
from tests.synthetic import Grid, edit_record

UNSEALED = "collected.json"
"""Has the digests of the others, of which jackknife.csv is in the order in which reporting asked for its rows."""


def files(folder: Path) -> dict[str, str]:
    texts = {
        str(file.relative_to(folder)): file.read_text()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name not in ("README.md", UNSEALED)
    }
    texts["jackknife.csv"] = "\n".join(sorted(texts.get("jackknife.csv", "").splitlines()))
    return texts


def keep_part(grid: Grid, folder: Path, *, without: list[CellId]) -> Path:
    """What is kept where these cells have not been made."""
    aside = folder.with_name(f"{folder.name}-records")
    shutil.copytree(grid.paths.results, aside)
    for cell in without:
        shutil.rmtree(grid.paths.cell(cell))
    collect(grid.opened, partial=True)
    keeping.keep(grid.opened, folder)
    shutil.rmtree(grid.paths.results)
    aside.rename(grid.paths.results)
    return folder


@pytest.fixture
def whole(grid: Grid, tmp_path: Path) -> Path:
    grid.variants = {"base": {}, "tenth": {"dataset": {"fraction": 0.1}}}
    grid.plan().make_all()
    collect(grid.opened)
    keeping.keep(grid.opened, tmp_path / "whole")
    return tmp_path / "whole"


def test_two_halves_are_the_whole(grid, whole, tmp_path):
    cells = grid.cells()
    docs = [cell for cell in cells if cell.dataset == "docs"]
    first = keep_part(grid, tmp_path / "first", without=docs)
    second = keep_part(grid, tmp_path / "second", without=[cell for cell in cells if cell not in docs])
    assert load_results(first).cells["state"].value_counts()["missing"] == len(docs)
    done = fill(first, [second])
    assert (done.taken, done.different, done.kept.ok, done.kept.cells) == (
        len(docs),
        0,
        len(cells),
        len(cells),
    )
    assert files(first) == files(whole)


def test_a_folder_without_a_single_cell_becomes_the_whole(grid, whole, tmp_path):
    nothing = keep_part(grid, tmp_path / "nothing", without=grid.cells())
    assert fill(nothing, [whole]).taken == len(grid.cells())
    assert files(nothing) == files(whole)


def test_seeds_of_a_row_may_come_from_both(grid, whole, tmp_path):
    cells = grid.cells()
    first = keep_part(grid, tmp_path / "first", without=[cell for cell in cells if cell.seed == 1])
    second = keep_part(grid, tmp_path / "second", without=[cell for cell in cells if cell.seed != 1])
    fill(first, [second])
    made, expected = files(first), files(whole)
    confusions = [json.loads(text.pop("confusions.json"))["rows"] for text in (made, expected)]
    for name, row in confusions[1].items():
        assert confusions[0][name]["seeds"] == row["seeds"] == 3
        assert confusions[0][name]["positives"] == row["positives"]
        assert sum(confusions[0][name]["others"]) == pytest.approx(sum(row["others"]), abs=0.01)
    assert made == expected


def test_cells_made_otherwise_stay_out_and_are_counted(grid, whole, tmp_path):
    cells = grid.cells()
    docs = [cell for cell in cells if cell.dataset == "docs"]
    first = keep_part(grid, tmp_path / "first", without=docs)
    before = files(first)
    grid.fingerprints = {str(cell): "of-other-code" for cell in docs}
    grid.plan()
    for cell in docs:
        grid.make(cell)
    second = keep_part(grid, tmp_path / "second", without=[])
    done = CliRunner().invoke(app, ["fill", str(first), str(second)])
    assert done.exit_code == 0, done.output
    assert f"0 cells taken; {len(docs)} are of other settings, data or code" in " ".join(done.output.split())
    assert files(first) == before


def test_a_row_whose_settings_wait_for_trials_gets_trials_choice_and_cells(grid, tmp_path):
    grid.search = SearchOutline("random", 2, 1000, "map", "linear", {"temperature": [0.1, 0.2]}, {})
    grid.trials = [
        Trial(
            CellId(dataset, encoder, loss, f"trial-{number:02}", 1000),
            f"made-{CellId(dataset, encoder, loss, f'trial-{number:02}', 1000)}",
            {"temperature": temperature},
        )
        for dataset, encoder in (("scenes", "cnn"), ("docs", "transformer"))
        for loss in ("jaccard", "reg")
        for number, temperature in enumerate((0.1, 0.2))
    ]
    grid.plan().make_all()
    collect(grid.opened)
    keeping.keep(grid.opened, whole := tmp_path / "whole")
    of_docs = [cell for cell in grid.cells() if cell.dataset == "docs" and cell.loss in ("jaccard", "reg")]
    trials = [trial.id for trial in grid.trials if trial.id.dataset == "docs"]
    grid.fingerprints = {str(cell): None for cell in of_docs}  # nothing is chosen without trials
    grid.plan()
    first = keep_part(grid, tmp_path / "first", without=[*of_docs, *trials])
    assert "docs/transformer/reg" not in json.loads((first / "chosen.json").read_text())

    other = replace(grid.search, space={"temperature": [0.1, 0.3]})
    shutil.copytree(whole, elsewhere := tmp_path / "elsewhere")
    study = open_study(elsewhere)
    provenance = require_collected(study).provenance
    write_outline(replace(study.outline, search=other), elsewhere / "outline.json")
    keeping.finish(open_study(elsewhere), elsewhere, provenance)
    assert fill(first, [elsewhere]).taken == 0

    assert fill(first, [whole]).taken == len(of_docs)
    assert files(first) == files(whole)
    assert require_collected(open_study(first)).provenance == require_collected(open_study(whole)).provenance


def test_records_of_several_origins_are_named_together_where_some_are_taken(grid, whole, tmp_path):
    cells = grid.cells()
    first = keep_part(grid, tmp_path / "first", without=cells[:3])
    for cell in cells[:6]:
        edit_record(grid.paths.cell(cell), "run", "commit", value="def5678")
    second = keep_part(grid, tmp_path / "second", without=cells[6:])
    third = keep_part(grid, tmp_path / "third", without=[])
    shutil.copytree(first, again := tmp_path / "again")
    fill(first, [second])
    assert commits(first) == {"abc1234": len(cells) - 3, "def5678": 3}
    fill(again, [third])
    assert commits(again) == {"abc1234": len(cells) - 3, "abc1234 or def5678": 3}


def commits(folder: Path) -> dict[str, int]:
    return require_collected(open_study(folder)).provenance["commit"]


@pytest.mark.parametrize("what", ["itself", "records", "nothing"])
def test_what_is_no_other_kept_result_is_refused(grid, whole, what):
    source = {"itself": whole, "records": grid.paths.results, "nothing": whole / "docs"}[what]
    before = files(whole)
    with pytest.raises(MlclError, match=r"is to be filled|holds no kept results|is not there"):
        fill(whole, [source])
    assert files(whole) == before
