"""Claims: the four answers, the estimate, and the file with the papers' own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mlcl.records.collect import collect
from mlcl.records.outline import open_study
from mlcl.records.paths import CellId
from mlcl.reporting.bootstrap import ClaimedDifferences
from mlcl.reporting.claims import judge, render
from mlcl.reporting.results import load_results
from mlcl.reporting.specs import Claim, SpecError, read_claims
from mlcl.reporting.statistics import examples

SPECS = Path(__file__).parents[2] / "paper_tables" / "specs"


def claim(better="bce", worse="jaccard", metric="macro_f1", **more):
    return Claim(id="x", statement="s", source="t", metric=metric, better=better, worse=worse, **more)


@pytest.fixture
def results(grid):
    grid.variants = {"base": {}, "few": {"dataset": {"fraction": 0.1}}}
    grid.plan().make_all()
    collect(open_study("tiny"))
    return load_results("tiny")


def test_a_claim_holds_its_reverse_does_not(results):
    assert judge(claim(), results).answer == "holds"
    assert judge(claim(better="jaccard", worse="bce"), results).answer == "does not hold"


def test_a_metric_where_lower_is_better_turns_the_difference_round(results):
    verdict = judge(claim(metric="hamming_loss"), results)
    assert verdict.answer == "holds"
    assert verdict.estimate.value > 0


def test_the_estimate_is_the_mean_over_datasets_of_the_difference_of_means(results):
    def mean(dataset, encoder, loss):
        return np.mean(list(results.values((dataset, encoder, loss, "base"), "test", "macro_f1").values()))

    columns = [("scenes", "cnn"), ("docs", "transformer")]
    expected = np.mean([mean(*column, "bce") - mean(*column, "jaccard") for column in columns])
    verdict = judge(claim(), results)
    assert verdict.estimate.value == pytest.approx(expected)
    assert verdict.columns == ("scenes (cnn)", "docs (transformer)")
    assert verdict.favourable == 2


def test_equal_losses_are_undecided(grid):
    grid.losses = ["bce", "ecb"]  # the same letters: the synthetic scores are the same but for skill
    grid.plan().make_all()
    collect(open_study("tiny"))
    results = load_results("tiny")
    same = results.metrics.assign(
        value=np.tile([0.5, 0.6, 0.55], len(results.metrics))[: len(results.metrics)]
    )
    object.__setattr__(results, "metrics", same)
    assert judge(claim(better="bce", worse="ecb"), results).answer == "undecided"


def test_datasets_are_chosen_by_their_number_of_labels_and_modality(results):
    assert judge(claim(datasets={"labels_over": 6}), results).columns == ("docs (transformer)",)
    assert judge(claim(datasets={"labels_at_most": 6}), results).columns == ("scenes (cnn)",)
    assert judge(claim(datasets={"modality": "image"}), results).columns == ("scenes (cnn)",)
    nothing = judge(claim(datasets={"labels_over": 100}), results)
    assert (nothing.answer, nothing.remark) == ("no data", "no such dataset in this study")


def test_a_growing_lead_is_a_difference_of_differences(results):
    few = {"dataset": {"fraction": 0.1}}

    def lead(variant):
        return judge(claim(variant=few if variant == "few" else {}), results).estimate.value

    verdict = judge(claim(variant=few, against={}), results)
    assert verdict.estimate.value == pytest.approx(lead("few") - lead("base"))


def test_what_is_not_in_the_study_is_no_data_and_says_why(results):
    assert judge(claim(better="asl"), results).remark == "asl not in this study"
    missing = judge(claim(variant={"dataset": {"fraction": 0.5}}), results)
    assert (missing.answer, missing.remark) == (
        "no data",
        "no variant of this study has dataset.fraction = 0.5",
    )


def test_incomplete_datasets_take_no_part_and_are_counted(grid):
    grid.plan().make_all()
    grid.fail(next(c for c in grid.cells() if (c.dataset, c.loss) == ("docs", "bce")), "oom", "too large")
    collect(open_study("tiny"))
    verdict = judge(claim(), load_results("tiny"))
    assert verdict.columns == ("scenes (cnn)",)
    assert verdict.remark == "1 of 2 datasets incomplete"


def test_encoders_of_one_dataset_are_counted_as_what_they_are(grid):
    grid.datasets, grid.encoders = {"scenes": "image"}, {"cnn": "image", "net": "image"}
    grid.plan().make_all()
    grid.fail(CellId("scenes", "net", "bce", "base", 0), "oom", "too large")
    collect(open_study("tiny"))
    assert judge(claim(), load_results("tiny")).remark == "1 of 2 pairs of dataset and encoder incomplete"


def test_one_seed_decides_nothing(grid):
    grid.seeds = [0]
    grid.plan().make_all()
    collect(open_study("tiny"))
    verdict = judge(claim(), load_results("tiny"))
    assert (verdict.answer, verdict.remark) == ("undecided", "one seed only")
    assert verdict.estimate_text.endswith("[no interval]")


def test_with_one_seed_the_test_examples_decide_where_the_scores_are_here(grid, monkeypatch):
    monkeypatch.setattr(examples, "RESAMPLES", 400)
    grid.seeds = [0]
    grid.plan().make_all()
    collect(open_study("tiny"))
    results = load_results("tiny")
    kept = ClaimedDifferences(results)
    verdict = judge(claim(), results, kept)
    assert (verdict.answer, verdict.remark) == ("holds", "one seed: the interval is over test examples")
    assert verdict.estimate.low < verdict.estimate.value < verdict.estimate.high
    assert judge(claim(better="jaccard", worse="bce"), results, kept).answer == "does not hold"
    assert judge(claim(metric="lrap"), results, kept).remark == "one seed only"
    kept.write()
    monkeypatch.setattr(examples, "resampled", None)  # what was kept is not computed again
    assert judge(claim(), results, ClaimedDifferences(results)) == verdict


def test_the_page_counts_the_answers_and_tells_the_tuning(results):
    text = render([judge(claim(), results), judge(claim(better="asl"), results)], results.outline)
    assert "1 holds, 0 does not hold, 0 undecided, 1 no data" in text
    assert "no loss had a search over hyperparameters" in text
    assert "| **holds** | +" in text


def test_the_papers_claims_are_well_formed_and_speak_of_known_losses():
    from mlcl import losses

    claims = read_claims(SPECS)
    assert len(claims) >= 10
    assert {name for c in claims for name in (c.better, c.worse)} <= set(losses.names())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("claims: [{id: a, statement: s, source: t, metric: map, better: x, worse: x}]", "both 'x'"),
        ("claims: [{id: a, statement: s, source: t, metric: map, better: x}]", "worse"),
        ("claims: [{id: a, statement: s, source: t, metric: map, better: x, worse: y, of: z}]", "of"),
        ("claims: [", "not valid YAML"),
    ],
)
def test_a_malformed_file_is_an_error_that_names_file_and_key(tmp_path, text, message):
    (tmp_path / "claims.yaml").write_text(text)
    with pytest.raises(SpecError, match=rf"(?s)claims\.yaml.*{message}"):
        read_claims(tmp_path)
