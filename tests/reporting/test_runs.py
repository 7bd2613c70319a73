"""Comparing runs: what changed, how much is there, results of several machines."""

from __future__ import annotations

import json
import shutil

import pytest
from scipy import stats

from mlcl.errors import MlclError
from mlcl.records.code import write_definitions
from mlcl.records.collect import collect
from mlcl.records.merge import MergeError, merge
from mlcl.records.paths import CellId
from mlcl.records.record import read_record
from mlcl.records.status import coverage
from mlcl.reporting import diff_metrics
from mlcl.reporting.statistics.seeds import welch_p_value

HEAD = "dataset,encoder,loss,variant,seed,split,metric,value\n"


def metrics_file(path, values, loss="bce", metric="map"):
    rows = [f"scenes,cnn,{loss},base,{seed},test,{metric},{value}" for seed, value in enumerate(values)]
    path.write_text(HEAD + "\n".join(rows) + "\n")
    return path


def test_the_same_file_has_no_change(finished):
    changes = diff_metrics(finished.metrics_csv, finished.metrics_csv)
    assert changes.compared == changes.identical > 100
    assert (changes.changed, changes.added, changes.removed) == ((), (), ())


def test_a_change_beyond_noise_is_told_from_one_within(tmp_path):
    old = metrics_file(tmp_path / "old.csv", [0.50, 0.51, 0.52])
    far = diff_metrics(old, metrics_file(tmp_path / "far.csv", [0.60, 0.61, 0.62]))
    assert [c.better for c in far.changed] == [True]
    assert "scenes/cnn/bce/base/test/map: 51.0 -> 61.0 (+10.0, better; p =" in far.render()
    near = diff_metrics(old, metrics_file(tmp_path / "near.csv", [0.51, 0.52, 0.50]))
    assert (near.changed, near.within_noise) == ((), 1)


def test_lower_may_be_better(tmp_path):
    old = metrics_file(tmp_path / "old.csv", [0.50, 0.51, 0.52], metric="hamming_loss")
    new = metrics_file(tmp_path / "new.csv", [0.60, 0.61, 0.62], metric="hamming_loss")
    assert [c.better for c in diff_metrics(old, new).changed] == [False]


def test_noise_is_welchs_test():
    a, b = [0.70, 0.74, 0.75], [0.60, 0.71, 0.65, 0.69]
    assert welch_p_value(a, b) == pytest.approx(stats.ttest_ind(a, b, equal_var=False).pvalue)
    assert welch_p_value([0.5, 0.5], [0.5, 0.5]) == 1
    assert welch_p_value([0.5, 0.5], [0.6, 0.6]) == 0


def test_with_one_seed_changes_above_the_tolerance_are_listed_as_such(tmp_path):
    old = metrics_file(tmp_path / "old.csv", [0.5])
    assert diff_metrics(old, metrics_file(tmp_path / "a.csv", [0.5001])).changed == ()
    assert "noise unknown" in diff_metrics(old, metrics_file(tmp_path / "b.csv", [0.6])).render()


def test_rows_that_came_or_went_are_listed(tmp_path):
    old = metrics_file(tmp_path / "old.csv", [0.5, 0.6])
    new = metrics_file(tmp_path / "new.csv", [0.5, 0.6], loss="reg")
    changes = diff_metrics(old, new)
    assert (changes.added, changes.removed) == (("scenes/cnn/reg/base",), ("scenes/cnn/bce/base",))


def test_a_file_of_another_kind_is_an_error(tmp_path):
    old = metrics_file(tmp_path / "old.csv", [0.5])
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(MlclError, match=r"other\.csv: is no metrics\.csv"):
        diff_metrics(old, tmp_path / "other.csv")
    with pytest.raises(MlclError, match="is not there"):
        diff_metrics(old, tmp_path / "gone.csv")


def test_coverage_shows_each_row_and_counts_what_is_not_well(finished):
    found = coverage("tiny")
    text = found.render()
    assert "37 of 45 cells" not in text
    first = text.splitlines()[0]
    assert first == "study tiny: 40 of 45 cells have a current result; 3 missing, 1 diverged, 1 stale"
    assert found.text("reg", "base", "scenes", "cnn") == "2/3 d"
    assert found.text("reg", "base", "docs", "transformer") == "0/3 ..."
    assert found.text("bce", "base", "docs", "transformer") == "2/3 o"
    assert found.text("jaccard", "fraction_0.1", "docs", "transformer") == "skip"
    assert found.text("label_prior", "base", "scenes", "none") == "3/3"


def test_coverage_needs_no_aggregation_and_no_record(grid):
    grid.plan()
    assert "0 of 30 cells" in coverage("tiny").render()


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
    assert len(merged.kept) == 20
    collect("tiny")
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
        (("result", "metrics", "test", "map"), 0.123, "seed1: the same settings, but different results"),
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
        other / "scenes/cnn/bce/base/seed1/metrics.json", "result", "metrics", "test", "new_metric", value=0.5
    )
    assert len(merge([other], "tiny").copied) == 10


def test_a_folder_without_records_is_an_error(grid, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(MergeError, match="holds no record"):
        merge([tmp_path / "empty"], "tiny")
    with pytest.raises(MergeError, match="no such folder"):
        merge([tmp_path / "gone"], "tiny")
