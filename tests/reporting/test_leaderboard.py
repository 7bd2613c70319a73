"""The leaderboard: comparisons that are fair, one dataset counted once, and the committed text that cannot rot."""

from __future__ import annotations

import re
from pathlib import Path
from statistics import fmean

import pytest
from typer.testing import CliRunner

from mlcl.cli import app
from mlcl.errors import MlclError
from mlcl.records.collect import collect
from mlcl.records.outline import open_study
from mlcl.records.paths import CellId
from mlcl.reporting.contrasts import Contrasts, pooled
from mlcl.reporting.leaderboard.comparisons import Study, comparisons
from mlcl.reporting.leaderboard.families import family_differences
from mlcl.reporting.leaderboard.page import as_text, load_leaderboard, write_leaderboard
from mlcl.reporting.leaderboard.quality import quality
from mlcl.reporting.leaderboard.verdicts import judge_over_studies
from mlcl.reporting.results import load_results
from mlcl.reporting.specs import Claim
from tests.browser import needs_browser, visit
from tests.synthetic import Grid

ROOT = Path(__file__).parents[2]
METRIC = "macro_f1_tuned"


def opened(grid: Grid) -> Study:
    collect(open_study(grid.study), partial=True)
    results = load_results(grid.study)
    return Study(grid.study, results, Contrasts(results))


def made(**changes) -> Grid:
    grid = Grid(**changes)
    grid.plan().make_all()
    return grid


@pytest.fixture
def tiny(grid: Grid) -> Study:
    """Two datasets of 6 and 12 labels, of texts and of images."""
    grid.plan().make_all()
    return opened(grid)


@pytest.fixture
def images(grid: Grid) -> Grid:
    """Two datasets of images with one encoder, in full and a tenth."""
    grid.datasets = {"scenes": "image", "birds": "image"}
    grid.encoders = {"cnn": "image"}
    grid.variants = {"base": {}, "few": {"dataset": {"fraction": 0.1}}}
    return grid


def one(found, readout="linear", fraction=1.0, modality="image"):
    return next(
        c
        for c in found
        if (c.place.readout, c.place.fraction, c.place.modality) == (readout, fraction, modality)
    )


def mean(study: Study, loss: str, datasets, readout="linear", variant="base"):
    results = study.results.with_readout(readout)
    return fmean(
        results.mean_sd_n((dataset, "cnn", loss, variant), "test", METRIC)[0] for dataset in datasets
    )


def claim(better="bce", worse="jaccard", **more):
    return Claim(id="x", statement="s", source="t", metric="macro_f1", better=better, worse=worse, **more)


def test_the_committed_text_is_what_the_kept_results_give():
    text = as_text(load_leaderboard(ROOT / "results" / "reference"))
    assert (ROOT / "docs" / "leaderboard.md").read_text(encoding="utf-8") == text, (
        "write it again: mlcl leaderboard"
    )


def test_losses_are_compared_by_modality_amount_of_data_and_readout(images):
    images.plan().make_all()
    found = comparisons(opened(images))
    # By a head, bce alone can be read: there is nothing to compare.
    assert [(c.place.modality, c.place.data, c.place.readout) for c in found] == [
        ("image", "all", "linear"),
        ("image", "a tenth", "linear"),
    ]
    assert one(found).columns == (("scenes", "cnn"), ("birds", "cnn"))


def test_the_means_are_those_of_the_study_and_the_best_leads(images):
    images.plan().make_all()
    study = opened(images)
    comparison = one(comparisons(study))
    for loss in ("bce", "jaccard", "reg"):
        assert comparison.standing.means[loss] == pytest.approx(mean(study, loss, ["scenes", "birds"]))
    assert comparison.leaders == ["bce"]
    assert comparison.standing.apart == ["reg", "jaccard"]
    assert comparison.grade == "A"


def test_intervals_are_wider_where_more_is_stated(images):
    images.plan().make_all()
    both = one(comparisons(opened(images))).standing.intervals["reg"]
    images.variants = {"base": {}}
    images.plan()
    alone = one(comparisons(opened(images))).standing.intervals["reg"]
    assert alone.value == both.value
    assert both.low < alone.low < alone.high < both.high


def test_a_loss_with_missing_cells_is_not_judged(images):
    images.plan().make_all()
    images.paths.record(CellId("birds", "cnn", "reg", "base", 1)).unlink()
    study = opened(images)
    comparison = one(comparisons(study))
    assert comparison.columns == (("scenes", "cnn"), ("birds", "cnn"))
    assert comparison.not_judged == {"reg": "1 of 3 cells are missing on Birds"}
    assert comparison.grade == "C"
    assert quality(study).missing == 1


def test_a_loss_without_a_single_cell_where_others_ran_is_missing_too(images):
    images.plan().make_all()
    for dataset in ("scenes", "birds"):
        for seed in images.seeds:
            images.paths.record(CellId(dataset, "cnn", "reg", "few", seed)).unlink()
    found = comparisons(opened(images))
    assert one(found).grade == "A"
    tenth = one(found, fraction=0.1)
    assert tenth.not_judged == {"reg": "3 of 3 cells are missing on Scenes"}
    assert tenth.grade == "C"


def test_a_dataset_on_which_most_losses_have_cells_missing_is_left_out_and_named(images):
    images.plan().make_all()
    for loss in ("reg", "bce"):
        images.paths.record(CellId("birds", "cnn", loss, "base", 1)).unlink()
    comparison = one(comparisons(opened(images)))
    assert comparison.columns == (("scenes", "cnn"),)
    assert comparison.left_out == {("birds", "cnn"): "2 of 3 losses have cells missing"}
    assert set(comparison.standing.means) == {"bce", "jaccard", "reg"}
    assert comparison.grade == "C"


UNTRAINED = {
    "curve": {"epochs": 3, "fall_rate": 2.0, "loss_left": 0.9, "last_epoch_best": False},
    "fit": {"split": "train", "map": None, "prior_map": 0.1},
}


def test_where_most_losses_were_not_trained_to_their_end_they_are_compared_and_it_is_said(images):
    images.plan().make_all()
    for loss in ("reg", "bce"):
        images.make(CellId("birds", "cnn", loss, "base", 1), diagnostics=UNTRAINED)
    images.make(CellId("scenes", "cnn", "jaccard", "base", 1), diagnostics=UNTRAINED)
    comparison = one(comparisons(opened(images)))
    assert comparison.short == {("birds", "cnn"): "2 of 3 losses"}
    assert list(comparison.standing.means) == ["bce", "reg"]  # on the other dataset, jaccard alone was not
    assert "still falling" in comparison.not_judged["jaccard"]
    assert comparison.grade == "C"
    assert "2 of 3 losses were not trained to their end" in as_text(load_leaderboard(Path("results"), []))


def test_a_loss_that_failed_is_not_judged_and_does_not_cost_the_dataset(images):
    images.plan().make_all()
    images.fail(CellId("birds", "cnn", "reg", "base", 1), "diverged", "the loss is NaN")
    study = opened(images)
    comparison = one(comparisons(study))
    assert comparison.columns == (("scenes", "cnn"), ("birds", "cnn"))
    assert list(comparison.not_judged) == ["reg"]
    assert "diverged" in comparison.not_judged["reg"]
    assert list(comparison.standing.means) == ["bce", "jaccard"]
    assert comparison.grade == "B"
    assert quality(study).failed == {"diverged": 1}


def test_one_seed_gives_a_description_and_no_leader(images):
    images.seeds = [0]
    images.plan().make_all()
    comparison = one(comparisons(opened(images)))
    assert comparison.grade == "D"
    assert comparison.leaders == []
    board = load_leaderboard(Path("results"), [claim()])
    assert "no loss is recommended" in as_text(board)
    assert board.claims[0].verdict.answer == "no data"


def test_a_loss_below_a_control_is_marked(images, monkeypatch):
    from tests import synthetic

    monkeypatch.setitem(synthetic.SKILL, "jaccard", -0.05)
    images.plan().make_all()
    study = opened(images)
    comparison = one(comparisons(study))
    assert comparison.below_controls == {"jaccard": ["label_prior", "random_encoder"]}
    assert comparison.grade == "B"
    assert quality(study).below["random_encoder"] == (2, 6)


def test_families_are_compared_by_one_readout_and_the_readout_apart(images):
    images.plan().make_all()
    study = opened(images)
    found = family_differences(comparisons(study))
    assert [difference.comparison.place.fraction for difference in found] == [1.0, 0.1]
    first, datasets = found[0], ["scenes", "birds"]
    contrastive = fmean(mean(study, loss, datasets) for loss in ("jaccard", "reg"))
    assert first.difference.value == pytest.approx(contrastive - mean(study, "bce", datasets))
    assert first.readout.value == pytest.approx(
        mean(study, "bce", datasets) - mean(study, "bce", datasets, "head")
    )
    assert first.answer == "classification losses are ahead"


def test_a_claim_is_judged_over_the_datasets_of_all_studies(images):
    images.plan().make_all()
    first = opened(images)
    second = opened(made(study="other", datasets={"songs": "image"}, encoders={"cnn": "image"}))
    (found,) = judge_over_studies([claim()], [first, second])
    separate = [
        fmean(
            study.results.mean_sd_n((dataset, "cnn", loss, "base"), "test", "macro_f1")[0] * sign
            for loss, sign in (("bce", 2), ("jaccard", -2))
        )
        for study, dataset in ((first, "scenes"), (first, "birds"), (second, "songs"))
    ]
    assert found.verdict.estimate.value == pytest.approx(fmean(separate))
    assert found.verdict.answer == "holds"
    assert (found.verdict.favourable, len(found.verdict.columns)) == (3, 3)
    assert found.studies == ("tiny", "other")


def test_a_dataset_of_two_studies_counts_once(images):
    images.plan().make_all()
    first = opened(images)
    second = opened(made(study="other", datasets={"scenes": "image"}, encoders={"cnn": "image"}))
    (pooled_verdict,) = judge_over_studies([claim()], [first, second])
    (alone,) = judge_over_studies([claim()], [first])
    assert pooled_verdict.verdict.columns == ("scenes", "birds")
    assert pooled_verdict.verdict.estimate.value == pytest.approx(
        alone.verdict.estimate.value
    )  # the same records


def test_rows_of_one_dataset_share_its_test_examples_in_whatever_study_they_are(images):
    images.seeds = [
        0
    ]  # with several, what they vary among themselves is taken off the variance over examples
    images.plan().make_all()
    first = opened(images)
    both = {"scenes": "image", "birds": "image"}
    second = opened(made(study="other", seeds=[0], datasets=both, encoders={"cnn": "image"}))
    row, other = (("scenes", "cnn", "bce", "base"), ("birds", "cnn", "bce", "base"))

    def difference(taken):
        return pooled([(first.contrasts, [(1.0, row)]), (second.contrasts, [(-1.0, taken)])], METRIC, "test")

    # The records are the same, so on the same examples nothing of their difference is left.
    assert difference(row).value == 0
    assert difference(row).example_variance == 0
    assert difference(other).example_variance > 0


def test_a_failed_run_of_a_claim_leaves_it_undecided_a_missing_one_does_not(images):
    images.plan().make_all()
    images.paths.record(CellId("birds", "cnn", "bce", "base", 1)).unlink()
    (missing,) = judge_over_studies([claim()], [opened(images)])
    assert missing.verdict.answer == "holds"
    assert missing.verdict.remark == "runs are missing on 1 more dataset"
    images.fail(CellId("birds", "cnn", "bce", "base", 1), "diverged", "the loss is NaN")
    (failed,) = judge_over_studies([claim()], [opened(images)])
    assert failed.verdict.answer == "undecided"
    assert "runs failed on 1 more" in failed.verdict.remark


def test_a_claim_is_not_decided_while_runs_are_missing_on_most_of_its_datasets(images):
    images.datasets = {"scenes": "image", "birds": "image", "songs": "image"}
    images.variants = {"base": {}}
    images.plan().make_all()
    for dataset in ("birds", "songs"):
        images.paths.record(CellId(dataset, "cnn", "bce", "base", 1)).unlink()
    (found,) = judge_over_studies([claim()], [opened(images)])
    assert found.verdict.columns == ("scenes",)
    assert found.verdict.answer == "undecided"
    assert found.verdict.remark == "runs are missing on 2 more datasets, so not decided"


def test_a_folder_without_kept_results_is_named(tmp_path):
    with pytest.raises(MlclError, match="holds no kept results"):
        load_leaderboard(tmp_path)


@pytest.fixture
def page(tiny: Study, tmp_path: Path) -> Path:
    write_leaderboard(Path("results"), tmp_path / "page.html", tmp_path / "page.md")
    return tmp_path / "page.html"


def test_the_command_writes_both_forms(tiny, tmp_path):
    options = ["--page", str(tmp_path / "p.html"), "--markdown", str(tmp_path / "p.md")]
    done = CliRunner().invoke(app, ["leaderboard", "results", *options])
    assert done.exit_code == 0, done.output
    text, page = ((tmp_path / name).read_text(encoding="utf-8") for name in ("p.md", "p.html"))
    assert "## Contrast or classification?" in text
    assert "<h1>Which loss should I use?</h1>" in page
    assert "(300 test rows)" in text, "a part of a dataset is known by its rows"
    assert "(300 test rows)" in page


def test_the_page_needs_no_network(page):
    assert re.findall(r'(?:src|href)="(?!#|data:)[^"]*"', page.read_text(encoding="utf-8")) == []


@needs_browser
def test_on_a_phone_only_tables_scroll_sideways(page, tmp_path):
    script = """
    document.querySelectorAll("details").forEach(part => { part.open = true; });
    document.getElementById("found").textContent = JSON.stringify({
      page: document.documentElement.scrollWidth, window: document.documentElement.clientWidth});
    """
    found, complaints = visit(page, script, tmp_path, 500)
    assert found["page"] <= found["window"]
    assert complaints == []
