"""Records of several machines brought together."""

from __future__ import annotations

import shutil

import pytest

from mlcl.records.code import write_definitions
from mlcl.records.collect import collect
from mlcl.records.merge import MergeError, merge
from mlcl.records.outline import open_study
from mlcl.records.paths import CellId
from mlcl.records.record import read_record
from tests.synthetic import edit_record, reseal


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
    edit_record(other / "scenes/cnn/bce/base/seed1", *path, value=value)
    with pytest.raises(MergeError, match=rf"(?s)nothing was merged.*{message}"):
        merge([other], "tiny")
    assert not grid.paths.record(CellId("scenes", "cnn", "bce", "base", 2)).exists()


def test_a_definition_that_is_not_the_same_for_all_records_is_a_conflict(two_machines):
    grid, other = two_machines
    for results, cell, code, digest in (
        (grid.paths.results, "scenes/cnn/bce/base/seed1", "1" * 64, "a"),
        (other, "scenes/cnn/bce/base/seed2", "2" * 64, "b"),
    ):
        edit_record(results / cell, "result", "code", value=code)
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
    edit_record(
        other / "scenes/cnn/bce/base/seed1", "result", "metrics", "linear", "test", "new_metric", value=0.5
    )
    assert len(merge([other], "tiny").copied) == 10


def test_a_folder_without_records_is_an_error(grid, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(MergeError, match="holds no record"):
        merge([tmp_path / "empty"], "tiny")
    with pytest.raises(MergeError, match="no such folder"):
        merge([tmp_path / "gone"], "tiny")


def spoil_scores(other):
    file = other / "scenes/cnn/bce/base/seed2/scores.npz"
    file.write_bytes(file.read_bytes()[:100])
    return "scores.npz: is not what was written"


def lose_scores(other):
    (other / "scenes/cnn/bce/base/seed2/scores.npz").unlink()
    return "scores.npz: is missing"


def made_without_scores(other):
    lose_scores(other)
    reseal(other / "scenes/cnn/bce/base/seed2")
    return "scores.npz: is missing, so that the record cannot be verified"


def cut_record(other):
    file = other / "scenes/cnn/bce/base/seed2/metrics.json"
    file.write_bytes(file.read_bytes()[:300])
    return "metrics.json: is no record"


def edit_metric(other):
    file = other / "scenes/cnn/bce/base/seed2/metrics.json"
    file.write_text(file.read_text().replace('"micro_f1": 0.', '"micro_f1": 0.1', 1))
    return "metrics.json: is not what was written"


def link_scores(other):
    file = other / "scenes/cnn/bce/base/seed2/scores.npz"
    file.rename(other / "elsewhere.npz")
    file.symlink_to(other / "elsewhere.npz")
    return "scores.npz: is a link"


def link_dataset(other):
    (other / "scenes").rename(other.parent / "scenes")
    (other / "scenes").symlink_to(other.parent / "scenes")
    return "scenes: is a link"


@pytest.mark.parametrize(
    "damage",
    [spoil_scores, lose_scores, made_without_scores, cut_record, edit_metric, link_scores, link_dataset],
)
def test_what_is_damaged_or_reached_by_a_link_is_not_merged(two_machines, damage):
    grid, other = two_machines
    message = damage(other)
    with pytest.raises(MergeError, match=message):
        merge([other], "tiny")
    assert not grid.paths.record(CellId("scenes", "cnn", "reg", "base", 2)).exists()


def test_a_damaged_record_here_counts_as_missing(two_machines):
    grid, other = two_machines
    cell = CellId("scenes", "cnn", "bce", "base", 1)
    grid.paths.record(cell).write_text("{")
    assert cell in merge([other], "tiny").copied
    assert read_record(grid.paths.record(cell), cell).status == "ok"
