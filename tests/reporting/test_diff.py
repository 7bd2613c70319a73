"""What changed between two metrics files."""

from __future__ import annotations

import shutil

import pytest
from scipy import stats
from typer.testing import CliRunner

from mlcl.cli import app
from mlcl.errors import MlclError
from mlcl.records.collect import collect
from mlcl.reporting import diff_metrics, diff_studies
from mlcl.reporting.statistics.seeds import welch_p_value
from tests.synthetic import SKILL

HEAD = "dataset,encoder,loss,variant,seed,readout,split,metric,value\n"


def metrics_file(path, values, loss="bce", metric="map"):
    rows = [
        f"scenes,cnn,{loss},base,{seed},linear,test,{metric},{value}" for seed, value in enumerate(values)
    ]
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
    assert "scenes/cnn/bce/base/linear/test/map: 51.0 -> 61.0 (+10.0, better; p =" in far.render()
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


def test_conclusions_stand_before_the_metrics_of_the_tables(grid, tmp_path, monkeypatch):
    grid.plan().make_all()
    collect(grid.opened)
    shutil.copytree(grid.paths.results, old := tmp_path / "old")
    same = diff_studies(old, grid.paths.results).render()
    assert same.startswith("The conclusion is the same:\n  Losses are judged by")

    monkeypatch.setitem(SKILL, "reg", 0.9)
    grid.make_all()
    collect(grid.opened)
    changes = diff_studies(old, grid.paths.results)
    text = changes.render()
    before, _, rest = text.partition("\nAfter:\n")
    after, _, numbers = rest.partition("\n\n")
    assert before.startswith("Before:\n  Losses are judged by")
    assert "reg (" not in before.split("is better than")[0]
    assert "reg (" in after.split("is better than")[0]
    lines = [line for line in numbers.splitlines() if "/test/" in line or "/val/" in line]
    assert {line.split(":")[0].rsplit("/", 2)[-1] for line in lines} <= {*grid.metrics, "macro_f1_tuned"}
    assert not any("/val/" in line for line in lines)
    assert f"{len(changes.changes.changed) - len(lines)} of them in other metrics or splits (--all" in numbers
    done = CliRunner().invoke(app, ["diff", "--all", str(old), str(grid.paths.results)])
    assert done.output.strip() == changes.changes.render().strip()
    (old / "outline.json").unlink()
    done = CliRunner().invoke(app, ["diff", str(old), str(grid.paths.results)])
    assert done.output.strip() == changes.changes.render().strip(), (
        "without conclusions there are the metrics"
    )


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
