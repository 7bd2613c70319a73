"""Kept results: small, text alone, and all of reporting follows from them, without records and torch."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mlcl.cli import app
from mlcl.errors import MlclError
from mlcl.records.collect import collect, require_collected, write_collected
from mlcl.records.coverage import coverage
from mlcl.records.outline import Outline, open_study
from mlcl.records.paths import StudyPaths
from mlcl.records.verify import defects
from mlcl.reporting import keep as keeping
from mlcl.reporting import load_results, write_tables
from mlcl.reporting.diff import diff_metrics
from tests.synthetic import Grid, spoiled

REFERENCE = Path(__file__).parents[2] / "results" / "reference"
KEPT = sorted(file.parent for file in REFERENCE.glob("*/collected.json"))
WITHOUT_TORCH = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "transformers", "snakemake"):
            raise ImportError(name)
sys.meta_path.insert(0, Blocked())
from mlcl.cli import main
main()
"""


def tables(folder: Path) -> dict[str, str]:
    """But for the claims, which follow from paper_tables/specs too."""
    return {
        file.name: file.read_text()
        for file in sorted((folder / "tables").glob("*.md"))
        if file.stem != "claims"
    }


@pytest.fixture
def kept(grid: Grid, tmp_path: Path) -> Path:
    grid.plan().make_all()
    collect(grid.opened)
    keeping.keep(grid.opened, tmp_path / "kept")
    return tmp_path / "kept"


@pytest.mark.parametrize("folder", KEPT, ids=lambda folder: folder.name)
def test_the_tables_of_the_repository_are_what_their_text_gives(folder, tmp_path):
    copy = tmp_path / folder.name
    shutil.copytree(folder, copy)
    shutil.rmtree(copy / "tables")
    assert write_tables(copy, markdown_alone=True) == []
    assert tables(copy) == tables(folder), f"write them again: mlcl tables results/reference/{folder.name}"


@pytest.mark.parametrize("folder", KEPT, ids=lambda folder: folder.name)
def test_kept_results_are_small(folder):
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < 4 * keeping.LARGEST


def test_one_command_without_torch_and_data_makes_everything_again(tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(KEPT[0], copy)
    shutil.rmtree(copy / "tables")
    command = [sys.executable, "-c", WITHOUT_TORCH, "report", "--all", str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert tables(copy) == tables(KEPT[0])
    assert (copy / "report.html").stat().st_size > 100_000
    assert list((copy / "figures").glob("learning-*.png"))


def test_what_is_kept_gives_the_tables_of_the_study(grid, kept):
    write_tables("tiny", markdown_alone=True)
    original = {
        file.name: file.read_text() for file in grid.paths.tables.glob("*.md") if file.stem != "claims"
    }
    assert tables(kept) == original
    assert not list(kept.rglob("metrics.json"))
    assert not list(kept.rglob("*.npz"))


def test_metrics_are_those_of_the_study_to_six_digits(kept):
    here, there = load_results("tiny"), load_results(kept)
    expected = here.metrics[here.metrics["split"] == "test"].reset_index(drop=True)
    assert there.metrics.drop(columns="value").equals(expected.drop(columns="value"))
    assert (there.metrics["value"] - expected["value"]).abs().max() < 1e-5
    assert there.costs.equals(here.costs)
    assert str(there.curves) == str(here.curves)
    assert there.provenance == here.provenance
    assert diff_metrics(Path("results/tiny/metrics.csv"), kept / "metrics.csv").changed == ()


def test_coverage_and_verify_of_kept_results(grid, tmp_path):
    study = spoiled(grid).opened
    collect(study, partial=True)
    keeping.keep(study, tmp_path / "kept")
    assert coverage(open_study(tmp_path / "kept")).render() == coverage(study).render()
    assert list(defects(open_study(tmp_path / "kept"))) == []


@pytest.mark.parametrize("name", ["metrics.csv", "jackknife.csv", "curves.csv"])
def test_a_changed_file_is_named_and_gives_no_table(kept, name):
    text = (kept / name).read_text()
    (kept / name).write_text(text.replace("1", "2", 1))
    with pytest.raises(MlclError, match="is not what was written"):
        load_results(kept)
    done = CliRunner().invoke(app, ["tables", "--partial", str(kept)])
    assert isinstance(done.exception, MlclError)
    assert (kept / name).read_text() == text.replace(
        "1", "2", 1
    )  # not collected anew from records that are not there


def test_intervals_of_another_version_are_made_anew_or_refused_where_they_cannot(grid, kept):
    here = StudyPaths("tiny").jackknife
    written = here.read_text().splitlines()
    opened = open_study(kept)
    provenance = require_collected(opened).provenance
    for file in (here, kept / "jackknife.csv"):
        file.write_text(file.read_text().replace("first_in_millionths", "first"))
    write_tables(Path("results/tiny"), markdown_alone=True)
    header, *rows = here.read_text().splitlines()
    assert header == written[0]
    assert len(rows) > 1
    assert set(rows) <= set(written)  # what the tables compare, without claims and overview
    write_collected(opened, "", provenance, kept=True)
    failed = write_tables(kept, markdown_alone=True)
    assert any("kept by another version of mlcl" in failure.reason for failure in failed)


def test_cells_that_were_kept_are_not_lost_to_a_run_that_is_not_finished(grid, kept):
    before = (kept / "cells.csv").read_text()
    lost = next(iter(grid.opened.outline.cells)).id
    shutil.rmtree(grid.paths.cell(lost))
    collect(grid.opened, partial=True)
    with pytest.raises(MlclError, match=rf"has 1 cells that these results lack .*{lost.dataset}.*--replace"):
        keeping.keep(grid.opened, kept)
    assert (kept / "cells.csv").read_text() == before
    assert keeping.keep(grid.opened, kept, replace=True).ok == before.count(",ok,") - 1


def test_a_foreign_folder_is_left_alone_and_texts_stay(grid, kept, tmp_path):
    (kept / "README.md").write_text("Ours.\n")
    keeping.keep(grid.opened, kept)
    assert (kept / "README.md").read_text() == "Ours.\n"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("x")
    with pytest.raises(MlclError, match="holds no results"):
        keeping.keep(grid.opened, tmp_path / "other")
    with pytest.raises(MlclError, match="kept results already"):
        keeping.keep(open_study(kept), tmp_path / "again")


def test_what_is_too_large_is_refused(grid, tmp_path, monkeypatch):
    grid.plan().make_all()
    collect(grid.opened)
    monkeypatch.setattr(keeping, "LARGEST", 10_000)
    with pytest.raises(MlclError, match="at most"):
        keeping.keep(grid.opened, tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_an_outline_that_has_gained_a_field_since_opens_as_it_was_kept(kept, monkeypatch):
    digest = property(lambda outline: "of-a-later-version")
    monkeypatch.setattr(Outline, "digest", digest)
    assert load_results(kept).kept
    with pytest.raises(MlclError, match="was collected before the study changed"):
        load_results("tiny")
    (kept / "outline.json").write_text((kept / "outline.json").read_text() + " ")
    with pytest.raises(MlclError, match="is not what was written"):
        load_results(kept)
