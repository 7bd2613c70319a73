"""Records of several machines brought together."""

from __future__ import annotations

import json
import shutil

import pytest

from mlcl.records.code import write_definitions
from mlcl.records.collect import collect
from mlcl.records.merge import MergeError, merge
from mlcl.records.outline import open_study
from mlcl.records.paths import CellId
from mlcl.records.record import read_record


@pytest.fixture
def two_machines(grid, tmp_path):
    """This machine has seeds 0 and 1, another one has seeds 1 and 2."""
    grid.plan().make_all()
    other = tmp_path / "other"
    shutil.copytree(grid.paths.results, other)
    for cell in grid.cells():
        if cell.seed == 2:
            shutil.rmtree(grid.paths.cell(cell))
        if cell.seed == 0:
            shutil.rmtree(other / str(cell))
    return grid, other


def test_cells_of_another_machine_are_taken_over(two_machines):
    grid, other = two_machines
    merged = merge([other], "tiny")
    assert {cell.seed for cell in merged.copied} == {2}
    assert len(merged.copied) == 10
    assert len(merged.present) == 20
    collect(open_study("tiny"))
    assert (grid.paths.cell(merged.copied[0]) / "scores.npz").exists()


def edit(file, *path, value):
    content = json.loads(file.read_text())
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    file.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            ("result", "settings", "training", "epochs"),
            4,
            "settings of .*: training.epochs: 3 and 4",
        ),
        (("result", "dataset", "content_sha256"), "other", "data of scenes"),
        (("result", "code"), "0" * 64, "code of scenes/cnn/bce/base"),
        (
            ("result", "metrics", "linear", "test", "map"),
            0.123,
            "seed1: the same settings, but different results",
        ),
        (("result", "fingerprint"), "other", "seed1: made of different things"),
    ],
)
def test_conflicts_are_listed_and_nothing_is_merged(two_machines, path, value, message):
    grid, other = two_machines
    edit(other / "scenes/cnn/bce/base/seed1/metrics.json", *path, value=value)
    with pytest.raises(MergeError, match=rf"(?s)nothing was merged.*{message}"):
        merge([other], "tiny")
    assert not grid.paths.record(CellId("scenes", "cnn", "bce", "base", 2)).exists()


def test_a_definition_that_is_not_the_same_for_all_records_is_a_conflict(two_machines):
    grid, other = two_machines
    for results, cell, code, digest in (
        (grid.paths.results, "scenes/cnn/bce/base/seed1", "1" * 64, "a"),
        (other, "scenes/cnn/bce/base/seed2", "2" * 64, "b"),
    ):
        edit(results / cell / "metrics.json", "result", "code", value=code)
        write_definitions(results, code, {"mlcl.training.loop.Loop": digest, "mlcl.losses.bce.BCE": "same"})
    with pytest.raises(MergeError, match=r"code: mlcl\.training\.loop\.Loop: is not the same") as error:
        merge([other], "tiny")
    assert "BCE" not in str(error.value)


def test_a_cell_that_went_well_elsewhere_replaces_one_that_failed_here(two_machines):
    grid, other = two_machines
    cell = CellId("scenes", "cnn", "bce", "base", 1)
    grid.fail(cell, "oom", "too large")
    merged = merge([other], "tiny")
    assert cell in merged.copied
    assert read_record(grid.paths.record(cell)).status == "ok"


def test_newer_metrics_elsewhere_are_no_conflict(two_machines):
    _, other = two_machines
    edit(
        other / "scenes/cnn/bce/base/seed1/metrics.json",
        "result",
        "metrics",
        "linear",
        "test",
        "new_metric",
        value=0.5,
    )
    assert len(merge([other], "tiny").copied) == 10


def test_a_folder_without_records_is_an_error(grid, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(MergeError, match="holds no record"):
        merge([tmp_path / "empty"], "tiny")
    with pytest.raises(MergeError, match="no such folder"):
        merge([tmp_path / "gone"], "tiny")
