"""Claims: the four answers, the estimate, and the file with the papers' own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mlcl.records.collect import collect
from mlcl.records.outline import open_study
from mlcl.records.paths import CellId
from mlcl.records.rescore import rescore
from mlcl.reporting.claims import judge as judge_with
from mlcl.reporting.claims import judge_all, render
from mlcl.reporting.contrasts import Contrasts
from mlcl.reporting.figures import sensitivity
from mlcl.reporting.results import load_results
from mlcl.reporting.specs import Claim, SpecError, read_claims
from mlcl.reporting.statistics import examples

SPECS = Path(__file__).parents[2] / "paper_tables" / "specs"


def judge(claim, results):
    return judge_with(claim, results, Contrasts(results))


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


def test_a_claim_about_little_data_finds_the_variant_that_keeps_the_number_of_steps(grid):
    few = {"dataset": {"fraction": 0.1}}
    grid.variants = {
        "base": {},
        "other": {**few, "loss": {"temperature": 0.5}},
        "tenth": {
            "dataset": {"fraction": 0.1, "val_fraction": 0.1},
            "training": {"steps_per_epoch": "all_rows"},
        },
    }
    grid.plan().make_all()
    collect(open_study("tiny"))
    results = load_results("tiny")
    assert judge(claim(variant=few), results).answer != "no data"
    outline = results.outline
    assert [outline.changes_of(name) for name in outline.variants] == [{}, grid.variants["other"], few]
    fixed = {**few, "training": {"steps_per_epoch": 100}}
    assert replace(outline, variants={"fixed": fixed}).changes_of("fixed") == fixed
    settings = sensitivity.swept_settings(outline)
    assert settings == {("dataset", "fraction"): {"tenth": 0.1}}


def test_what_is_not_in_the_study_is_no_data_and_says_why(results):
    assert judge(claim(better="asl"), results).remark == "asl not in this study"
    missing = judge(claim(variant={"dataset": {"fraction": 0.5}}), results)
    assert (missing.answer, missing.remark) == (
        "no data",
        "no variant of this study has dataset.fraction = 0.5",
    )


def test_all_of_the_data_is_fraction_1_and_nothing_else(grid):
    few, all_of_it = {"dataset": {"fraction": 0.1}}, {"dataset": {"fraction": 1.0}}
    grid.variants = {"base": {}, "few": few}
    grid.plan().make_all()
    collect(open_study("tiny"))
    results = load_results("tiny")
    assert judge(claim(variant=few, against=all_of_it), results).answer != "no data"
    halves = {name: replace(d, fraction=0.5) for name, d in results.outline.datasets.items()}
    halved = replace(results, outline=replace(results.outline, datasets=halves))
    verdict = judge(claim(variant=few, against=all_of_it), halved)
    assert (verdict.answer, verdict.remark) == (
        "no data",
        "no variant of this study has dataset.fraction = 1.0",
    )


def test_nothing_is_decided_on_some_of_the_datasets(grid):
    grid.plan().make_all()
    grid.fail(next(c for c in grid.cells() if (c.dataset, c.loss) == ("docs", "bce")), "diverged", "NaN")
    collect(open_study("tiny"))
    verdict = judge(claim(), load_results("tiny"))
    assert verdict.columns == ("scenes (cnn)",)
    assert (verdict.answer, verdict.remark) == ("undecided", "1 of 2 datasets incomplete, so not decided")


def test_what_a_study_skips_on_purpose_is_no_part_of_the_scope(grid):
    grid.skipped = [
        {"dataset": "docs", "encoder": "transformer", "loss": "bce", "variant": "base", "reason": "no"}
    ]
    grid.plan().make_all()
    collect(open_study("tiny"))
    verdict = judge(claim(), load_results("tiny"))
    assert (verdict.answer, verdict.columns) == ("holds", ("scenes (cnn)",))


def test_encoders_of_one_dataset_are_counted_as_what_they_are(grid):
    grid.datasets, grid.encoders = {"scenes": "image"}, {"cnn": "image", "net": "image"}
    grid.plan().make_all()
    grid.fail(CellId("scenes", "net", "bce", "base", 0), "oom", "too large")
    collect(open_study("tiny"))
    remark = judge(claim(), load_results("tiny")).remark
    assert remark == "1 of 2 pairs of dataset and encoder incomplete, so not decided"


def test_one_seed_decides_nothing(grid):
    grid.seeds = [0]
    grid.plan().make_all()
    collect(open_study("tiny"))
    verdict = judge(claim(), load_results("tiny"))
    assert verdict.answer == "undecided"
    assert verdict.remark == "one seed: how much runs differ is unknown, so not decided"
    assert verdict.estimate_text.endswith("[no interval]")


def with_values(results, values):
    """The same study with other values: (dataset, loss) -> one value a seed, for every metric."""
    metrics = results.metrics.copy()
    for (dataset, loss), own in values.items():
        for seed, value in enumerate(own):
            chosen = (metrics["dataset"] == dataset) & (metrics["loss"] == loss) & (metrics["seed"] == seed)
            metrics.loc[chosen, "value"] = value
    return replace(results, metrics=metrics)


def without_scores(grid):
    for cell in grid.cells():
        (grid.paths.cell(cell) / "scores.npz").unlink()


def test_a_difference_that_is_printed_as_0_decides_nothing(grid):
    grid.plan().make_all()
    collect(open_study("tiny"))
    without_scores(grid)
    values = {"bce": [0.5 + 1e-12] * 3, "jaccard": [0.5] * 3, "reg": [0.5] * 3}
    tiny = {(dataset, loss): own for dataset in grid.datasets for loss, own in values.items()}
    verdict = judge(claim(), with_values(load_results("tiny"), tiny))
    assert verdict.estimate.low > 0
    assert verdict.answer == "undecided"


def test_more_than_half_of_the_datasets_must_be_in_favour(grid):
    grid.plan().make_all()
    collect(open_study("tiny"))
    without_scores(grid)
    spread = np.array([-0.001, 0, 0.001])
    values = {("scenes", "bce"): 0.9 + spread, ("scenes", "jaccard"): 0.5 + spread}
    values |= {("docs", "bce"): 0.50 + spread, ("docs", "jaccard"): 0.51 + spread}
    verdict = judge(claim(), with_values(load_results("tiny"), values))
    assert verdict.estimate.low > 0
    assert (verdict.answer, verdict.favourable) == ("undecided", 1)
    assert verdict.remark.endswith("not on more than half of the datasets")


def test_without_scores_the_interval_is_over_seeds_and_says_so(grid):
    grid.plan().make_all()
    collect(open_study("tiny"))
    with_scores = judge(claim(), load_results("tiny"))
    without_scores(grid)
    verdict = judge(claim(), load_results("tiny"))
    assert verdict.remark == "over seeds only, on these test examples"
    assert verdict.estimate.half_width < with_scores.estimate.half_width


def test_the_intervals_of_many_claims_are_wider_than_that_of_one(results):
    contrasts = Contrasts(results)
    claims = [claim(), claim(metric="map"), claim(better="asl")]
    alone, first, second, absent = judge(claim(), results), *judge_all(results, contrasts, claims)
    expected = alone.contrast.interval(1 - 0.05 / 2)  # two of three have data
    assert first.estimate == expected
    assert (second.answer, absent.answer) == ("holds", "no data")


def test_scores_are_read_once_and_bands_of_labels_count_their_examples(grid, monkeypatch):
    grid.plan().make_all()
    for cell in grid.cells():
        rescore(grid.paths.cell(cell), "with the card")
    collect(open_study("tiny"))
    results = load_results("tiny")
    contrasts = Contrasts(results)
    verdict = judge_with(claim(metric="macro_f1_tail"), results, contrasts)
    assert verdict.contrast.covers_examples
    contrasts.write()
    monkeypatch.setattr(examples, "without_groups", None)  # what was cached is not computed again
    assert judge(claim(metric="macro_f1_tail"), results) == verdict


def test_the_page_counts_the_answers_and_tells_the_tuning(results):
    text = render([judge(claim(), results), judge(claim(better="asl"), results)], results.outline)
    assert "1 holds, 0 does not hold, 0 undecided, 1 no data" in text
    assert "no loss had a search over hyperparameters" in text
    assert "| **holds** | +" in text


def test_the_papers_claims_are_well_formed_and_speak_of_known_losses():
    from mlcl import losses

    claims = read_claims(SPECS)
    assert len(claims) >= 10
    assert {"kmcl", "mulsupcon"} <= {c.better for c in claims}
    assert all(c.source.startswith("ours; ") == (c.kind == "hypothesis") for c in claims)
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
