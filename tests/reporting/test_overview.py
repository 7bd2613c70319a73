"""The overview, the standings that its intervals come from, and each loss against the best one."""

from __future__ import annotations

from dataclasses import replace
from math import ceil

import numpy as np
import pandas as pd
import pytest

from mlcl.records.collect import collect
from mlcl.records.outline import SearchOutline, open_study
from mlcl.records.paths import CellId
from mlcl.records.rescore import rescore
from mlcl.reporting.contrasts import Contrasts
from mlcl.reporting.cost_means import compute_seconds
from mlcl.reporting.figures import ranks
from mlcl.reporting.overview import (
    MOST_ADVISED,
    conclude,
    overview,
    rows_factor,
    seeds_needed,
    variance_factor,
)
from mlcl.reporting.overview_forms import MOST_LINES, as_html, in_brief, write_overview
from mlcl.reporting.ranking import complete_means, note_on_encoders, primary_metric, rank_losses
from mlcl.reporting.results import load_results
from mlcl.reporting.standings import against_baselines, standings
from mlcl.reporting.statistics import examples
from mlcl.reporting.statistics.contrast import critical_value
from mlcl.reporting.tables.best_against_each import best_against_each_table
from mlcl.reporting.tables.differences import differences_table
from mlcl.reporting.tables.grid import criteria_table, main_table
from mlcl.reporting.tables.table import Number, Text
from tests.synthetic import SKILL, change_scores

SIX = ("scenes", "docs", "more", "birds", "songs", "genes")
COMPLETE = {name: ["cnn"] if name == "docs" else ["cnn", "net"] for name in SIX}
"""dataset -> its encoders on which no run lacks, of `two_encoders`."""


def loaded(grid):
    grid.plan().make_all()
    collect(open_study("tiny"), partial=True)
    return load_results("tiny")


@pytest.fixture
def six_datasets(grid):
    grid.datasets = dict.fromkeys(SIX, "image")
    grid.encoders = {"cnn": "image"}
    return loaded(grid)


def told(results):
    return " ".join(overview(results, Contrasts(results)))


def of(results):
    """title of a column -> its standing."""
    return {s.title: s for s in standings(results, primary_metric(results), Contrasts(results))}


def flattened(results, losses, value=0.5):
    """The same study, in which these losses have one and the same value in each seed, whatever the metric."""
    metrics = results.metrics.copy()
    rng = np.random.default_rng(0)
    noise = dict(enumerate(rng.normal(0, 0.01, 30)))
    chosen = metrics["loss"].isin(losses)
    metrics.loc[chosen, "value"] = value + metrics.loc[chosen, "seed"].map(noise)
    return replace(results, metrics=metrics)


def test_each_column_is_judged_with_the_intervals_of_the_table(grid):
    results = loaded(grid)
    text = told(results)
    standing = of(results)["the mean over 2 datasets"]
    assert text.startswith(
        "Losses are judged by macro-F1 (tuned thresholds), see the table of criteria. On the mean over 2 datasets, bce"
    )
    gap = standing.intervals["reg"].scaled(-100)
    assert (
        f"is better than reg and all others: {gap.value:.1f} points [{gap.low:.1f}, {gap.high:.1f}]" in text
    )
    cells = {row.key[0]: row.cells for row in differences_table(results, Contrasts(results)).rows}
    assert cells["reg"][0].interval == (standing.intervals["reg"].low, standing.intervals["reg"].high)
    assert cells["bce"][0] == Text("best")


def test_losses_that_are_alike_are_not_told_apart_and_more_runs_are_named(grid):
    results = flattened(loaded(grid), ["bce", "reg", "jaccard"])
    without_scores(grid)
    text = told(results)
    assert "these losses cannot be told apart: bce, jaccard and reg" in text
    assert "is better than" not in text
    assert "equal to the printed digit" in text


def test_what_to_run_counts_seeds_and_datasets(grid):
    grid.seeds = [0, 1, 2]
    results = loaded(grid)
    without_scores(grid)
    metrics = results.metrics.copy()
    values = {"bce": [0.60, 0.62, 0.67], "reg": [0.59, 0.60, 0.64], "jaccard": [0.1, 0.11, 0.12]}
    for loss, own in values.items():
        for seed, value in enumerate(own):
            metrics.loc[(metrics["loss"] == loss) & (metrics["seed"] == seed), "value"] = value
    results = replace(results, metrics=metrics)
    standing = of(results)["the mean over 2 datasets"]
    assert (standing.best, standing.tied, standing.apart) == ("bce", ["reg"], ["jaccard"])
    gap = standing.gaps["reg"]
    seeds = seeds_needed(gap, standing)

    def half(n):
        error = np.sqrt(gap.seed_variance * 3 / n)
        return critical_value(gap.seed_freedom * (n - 1) / 2, standing.confidence, 3) * error

    assert half(seeds) < abs(gap.value) <= half(seeds - 1)
    text = told(results)
    assert f"about {seeds} seeds in place of 3 would tell them apart" in text
    assert ceil(2 * variance_factor(gap, standing)) > MOST_ADVISED
    assert "datasets like these" not in text, "more than anybody would run"
    assert "bce (63.0) is better than jaccard" in text
    assert "cannot be told from reg" in text


def with_gap(results, values):
    """The same study, in which reg has these values in its three seeds, bce others and jaccard far smaller ones."""
    metrics = results.metrics.copy()
    for loss, own in {"bce": [0.60, 0.61, 0.62], "reg": values, "jaccard": [0.1, 0.11, 0.12]}.items():
        for seed, one in enumerate(own):
            metrics.loc[(metrics["loss"] == loss) & (metrics["seed"] == seed), "value"] = one
    return replace(results, metrics=metrics)


@pytest.mark.parametrize("gap", [0.011, 0.015, 0.002])
def test_only_runs_that_somebody_would_make_are_advised(grid, gap):
    results = loaded(grid)
    without_scores(grid)
    results = with_gap(results, [0.60 - gap, 0.61 - gap, 0.62 - gap])
    standing = of(results)["the mean over 2 datasets"]
    seeds = seeds_needed(standing.gaps["reg"], standing)
    datasets = ceil(2 * variance_factor(standing.gaps["reg"], standing))
    text = told(results)
    assert (f"about {seeds} seeds in place of 3" in text) == (seeds is not None and seeds <= 20)
    assert (f"about {datasets} datasets like these in place of 2" in text) == (datasets <= 20)
    impossible = "More runs will not tell bce and reg on the mean over 2 datasets apart in practice"
    assert (impossible in text) == (gap == 0.002)
    assert ("would tell them apart" in text) == (gap != 0.002)


def test_with_one_dataset_test_rows_are_advised(grid, monkeypatch):
    grid.datasets = {"scenes": "image"}
    results = loaded(grid)
    standing = of(results)["Scenes"]
    gap = replace(
        standing.gaps[standing.order[1]],
        value=0.01,
        seed_variance=1e-7,
        example_variance=1e-4,
        example_freedom=80,
    )
    times = rows_factor(gap, standing)
    error = np.sqrt(gap.seed_variance + gap.example_variance / times)
    assert critical_value(gap.freedom, standing.confidence, 3) * error == pytest.approx(gap.value)
    assert rows_factor(replace(gap, seed_variance=1e-4), standing) is None, "training runs differ too much"
    assert rows_factor(replace(gap, example_variance=np.nan), standing) is None
    second = standing.order[1]
    unclear = {second: gap.interval(standing.confidence, methods=3)}
    close = replace(
        standing, gaps={**standing.gaps, second: gap}, intervals={**standing.intervals, **unclear}
    )
    monkeypatch.setattr("mlcl.reporting.overview.standings", lambda *args, **kwargs: [close])
    assert f"about {ceil(times)} times the test rows" in told(results)


def test_it_says_where_the_best_loss_is_no_better_than_a_baseline(grid):
    grid.datasets = {"scenes": "image"}
    results = loaded(grid)
    assert "even the best loss" not in told(results)
    assert set(against_baselines(results, Contrasts(results), of(results)["Scenes"])) == {
        "label_prior",
        "random_encoder",
    }
    best = of(results)["Scenes"].means["bce"]

    def with_prior(value):
        metrics = results.metrics.copy()
        metrics.loc[metrics["loss"] == "label_prior", "value"] = value
        return replace(results, metrics=metrics)

    near = with_prior(best - 0.004)
    (lead,) = (
        lead
        for baseline, lead in against_baselines(near, Contrasts(near), of(near)["Scenes"]).items()
        if baseline == "label_prior"
    )
    assert lead.covers_examples
    assert lead.interval.value == pytest.approx(0.004)
    assert lead.interval.low < 0 < lead.interval.high
    shown = lead.interval.scaled(100)
    assert (
        f"On Scenes, even the best loss, bce ({100 * best:.1f}), cannot be told from the baseline label prior "
        f"(lead 0.4 points [{shown.low:.1f}, {shown.high:.1f}])." in told(near)
    )
    assert "is below the baseline label prior (lead -" in told(with_prior(0.99))


def test_a_metric_where_lower_is_better_leads_a_baseline_by_a_positive_number(grid):
    grid.datasets, grid.metrics = {"scenes": "image"}, ["hamming_loss"]
    results = loaded(grid)
    leads = against_baselines(results, Contrasts(results), of(results)["Scenes"])
    assert all(lead.interval.value > 0 for lead in leads.values())


def test_in_brief_it_has_the_conclusion_and_room_on_a_terminal(two_encoders):
    lines = in_brief(conclude(two_encoders, Contrasts(two_encoders)))
    assert lines[0].startswith("Losses are judged by")
    assert "On the mean over 5 datasets" in " ".join(lines) or "On the mean over 6 datasets" in " ".join(
        lines
    )
    assert 2 <= len(lines) <= MOST_LINES
    assert all(len(line) <= 100 for line in lines)


def test_a_sentence_says_what_was_tuned(grid):
    results = loaded(grid)
    search = SearchOutline(
        "random", 5, 1000, "map", "linear", {"learning_rate": [0.1, 1.0]}, {"reg": {"margin": [1]}}
    )
    tuned = replace(results, outline=replace(results.outline, search=search))
    assert (
        "every loss had 5 trials, in which learning rate and margin were searched, judged by mAP on validation; see "
        "the table of chosen settings." in told(tuned)
    )


def test_its_markdown_links_the_tables_that_there_are(grid):
    results = loaded(grid)
    write_overview(results, Contrasts(results), {"criteria"})
    text = (grid.paths.tables / "overview.md").read_text()
    assert text.startswith("# A tiny study: overview\n\nLosses are judged by")
    assert "see the [table of criteria](criteria.md). On the mean" in text
    assert as_html("the table of criteria & the table of differences", {"criteria"}) == (
        'the <a href="#table-criteria">table of criteria</a> &amp; the table of differences'
    )


def test_one_seed_recommends_nothing(grid):
    grid.seeds = [0]
    results = loaded(grid)
    text = told(results)
    assert "no loss is recommended" in text
    assert "To know more: run at least 3 seeds." in text
    assert "is better than" not in text
    table = differences_table(results, Contrasts(results))
    assert "there are no intervals" in table.caption
    assert all(cell.interval is None for row in table.rows for cell in row.cells if isinstance(cell, Number))


def test_without_complete_rows_it_says_that_there_is_nothing_to_compare(grid):
    grid.plan()
    collect(open_study("tiny"), partial=True)
    assert "nothing to compare yet" in told(load_results("tiny"))


def test_a_cheaper_loss_that_cannot_be_told_from_the_best_is_named_by_its_cpu_time(grid):
    results = flattened(loaded(grid), ["bce", "reg", "jaccard"])
    best = of(results)["the mean over 2 datasets"].best
    other = next(loss for loss in ("reg", "bce") if loss != best)
    costs = results.costs
    costs.loc[(costs["loss"] == other) & (costs["cost"] == "cpu_seconds"), "value"] = 1.0
    costs.loc[(costs["loss"] == other) & (costs["cost"] == "wall_seconds"), "value"] = 1e6
    assert f"{other}, which cannot be told from {best} on the mean over 2 datasets, takes 11 %" in told(
        results
    )


def test_a_cell_on_an_accelerator_costs_the_time_for_which_it_held_it(grid):
    results = loaded(grid)
    row = ("scenes", "cnn", "bce", "base")
    assert compute_seconds(results)[row] == 9.5
    on_device = results.costs[results.costs["cost"] == "peak_memory_mb"].assign(cost="peak_device_memory_mb")
    results = replace(results, costs=pd.concat([results.costs, on_device]))
    assert compute_seconds(results)[row] == pytest.approx(14)


def test_one_seed_decides_nothing_in_any_sentence(grid, monkeypatch):
    """Not about criteria and controls either; the table says that its marks may be chance."""
    monkeypatch.setitem(SKILL, "jaccard", 0.01)
    grid.seeds, grid.datasets = [0], {"scenes": "image"}
    results = loaded(grid)
    text = told(results)
    assert "no loss is recommended" in text
    assert "jaccard is below random encoder in macro-F1 (tuned thresholds) in its one run." in text
    assert "bce has the highest value of these single runs by all criteria" in text
    for decided in ("is better than", "cannot be told", "learned nothing", "Friedman", "mean by all"):
        assert decided not in text
    assert "with one seed that may be chance, and none can be told apart" in main_table(results).caption


def test_criteria_stand_side_by_side_and_disagreement_is_told(grid):
    results = loaded(grid)
    assert (
        "bce has the highest mean by all criteria: mAP, macro-F1 at tuned thresholds and macro-F1 at 0.5"
        in told(results)
    )
    metrics = results.metrics.copy()
    metrics.loc[(metrics["loss"] == "reg") & (metrics["metric"] == "map"), "value"] = 0.99
    assert "The criteria disagree about the highest mean: by mAP reg" in told(
        replace(results, metrics=metrics)
    )
    table = criteria_table(results)
    assert [column.key[2] for column in table.columns[:3]] == ["map", "macro_f1_tuned", "macro_f1"]


def test_a_loss_below_a_control_row_is_marked(grid):
    results = flattened(loaded(grid), ["jaccard"], value=0.02)
    assert "jaccard is below label prior and random encoder in macro-F1 (tuned thresholds)" in told(results)
    notes = main_table(results).notes
    assert any(note.startswith("below the control row") for note in notes)


def test_the_primary_metric_is_what_predictions_are_made_by(grid):
    assert primary_metric(loaded(grid)) == "macro_f1_tuned"
    grid.split = "val"  # thresholds are tuned there, so it has no such metric
    assert primary_metric(loaded(grid)) == "macro_f1"
    grid.metrics = ["micro_f1", "map"]
    assert primary_metric(loaded(grid)) == "map"


def test_incomplete_rows_have_no_mean(grid):
    grid.plan().make_all()
    grid.fail(CellId("scenes", "cnn", "reg", "base", 1), "oom", "too large")
    collect(open_study("tiny"))
    means = complete_means(load_results("tiny"), "map")
    assert ("scenes", "cnn") not in means["reg"]
    assert ("docs", "transformer") in means["reg"]


def test_gaps_are_differences_of_means_with_the_variance_of_seeds_and_examples(grid):
    results = loaded(grid)
    standing = of(results)["Scenes"]

    def runs(loss):
        return list(results.values(("scenes", "cnn", loss, "base"), "test", "macro_f1_tuned").values())

    gap = standing.gaps["jaccard"]
    assert gap.value == pytest.approx(np.mean(runs("jaccard")) - np.mean(runs("bce")))
    variances = {loss: np.var(runs(loss), ddof=1) for loss in ("jaccard", "bce", "reg")}
    own = (variances["jaccard"] + variances["bce"]) / 3
    pooled = 2 / 3 * np.mean(list(variances.values()))
    assert gap.seed_variance == pytest.approx(max(own, pooled))
    assert gap.covers_examples
    assert gap.interval(standing.confidence, 3) == standing.intervals["jaccard"]
    assert standing.confidence == pytest.approx(1 - 0.05 / 3)  # two columns and their mean
    without_scores(grid)
    assert "on these test examples" in differences_table(load_results("tiny"), Contrasts(results)).caption


def test_a_table_of_validation_takes_the_scores_of_validation(grid):
    grid.datasets = {"scenes": "image"}
    of_test = of(loaded(grid))["Scenes"].gaps["jaccard"]
    for cell in grid.cells():  # test stays as it is, and on validation jaccard is on a par
        if cell.loss == "jaccard":
            folder = grid.paths.cell(cell)
            of_bce = np.load(grid.paths.cell(replace(cell, loss="bce")) / "scores.npz")["linear_val_scores"]
            change_scores(folder, linear_val_scores=of_bce)
            rescore(folder, "new")
    grid.split = "val"
    grid.plan()
    collect(open_study("tiny"))
    results = load_results("tiny")
    standing = of(results)["Scenes"]
    gap = standing.gaps["jaccard" if standing.best == "bce" else "bce"]
    assert (gap.value, gap.example_variance) == (0, pytest.approx(0, abs=1e-12))
    assert "on the validation split" in differences_table(results, Contrasts(results)).caption
    assert of_test.value < -0.05


def test_scores_are_read_again_only_if_they_changed(grid, monkeypatch):
    results = loaded(grid)
    computed = []
    whole = examples.without_groups

    def count(scored, metric, seed=0):
        computed.append(metric)
        return whole(scored, metric, seed)

    monkeypatch.setattr(examples, "without_groups", count)

    def run():
        contrasts = Contrasts(results)
        standings(results, "macro_f1", contrasts)
        contrasts.write()

    run()
    assert len(computed) == 2 * 3 * 3
    run()
    assert len(computed) == 2 * 3 * 3
    folder = grid.paths.cell(CellId("docs", "transformer", "reg", "base", 0))
    with np.load(folder / "scores.npz") as stored:
        scores = stored["linear_test_scores"]
    change_scores(folder, linear_test_scores=scores * np.float32(0.99))
    run()
    assert len(computed) == 2 * 3 * 3 + 1
    assert len(grid.paths.jackknife.read_text().splitlines()) == 1 + 2 * 3 * 3


def without_scores(grid):
    for cell in grid.cells():
        (grid.paths.cell(cell) / "scores.npz").unlink(missing_ok=True)


def test_pairs_against_the_best_by_rank(six_datasets):
    table = best_against_each_table(six_datasets)
    rows = {row.key[0]: row.cells for row in table.rows}
    assert [row.key[0] for row in table.rows] == ["bce", "reg", "jaccard"]
    found = rank_losses(six_datasets, "macro_f1_tuned")
    rank, gap, p, chance, delta = rows["jaccard"]
    assert rank.value == found.ranks["jaccard"] == 3
    means = complete_means(six_datasets, "macro_f1_tuned")
    assert gap.value == pytest.approx(np.mean([means["jaccard"][c] - means["bce"][c] for c in means["bce"]]))
    assert p.value == found.wilcoxon["bce", "jaccard"]
    assert chance.value == 0
    assert delta.value == -1


def test_two_datasets_are_too_few_for_tests_of_ranks(grid):
    assert best_against_each_table(loaded(grid)) is None


@pytest.fixture
def two_encoders(grid):
    """Six datasets with two encoders: bce is best but with `net` on two datasets, of which one lacks a run there."""
    grid.datasets = dict.fromkeys(SIX, "image")
    grid.encoders = {"cnn": "image", "net": "image"}
    grid.plan().make_all()
    grid.fail(CellId("docs", "net", "reg", "base", 1), "oom", "too large")
    collect(open_study("tiny"))
    results = load_results("tiny")
    values = results.metrics
    turned = (values["encoder"] == "net") & values["dataset"].isin(["scenes", "docs"])
    for loss, value in (("bce", 0.0), ("jaccard", 1.0)):
        values.loc[turned & (values["loss"] == loss), "value"] = value
    return results


def test_encoders_of_one_dataset_are_not_datasets(grid):
    grid.datasets, grid.encoders = {"scenes": "image"}, {"cnn": "image", "net": "image", "vit": "image"}
    results = loaded(grid)
    assert rank_losses(results, "macro_f1").datasets == ("scenes",)
    assert best_against_each_table(results) is None
    assert not list(ranks.draw(results))
    text = told(results)
    assert "On Scenes, net, bce" in text
    assert "mean over" not in text


def test_a_dataset_counts_with_the_mean_over_its_complete_encoders(two_encoders):
    found = rank_losses(two_encoders, "macro_f1_tuned")
    assert found.datasets == SIX
    assert found.ranks == pytest.approx({"bce": 8 / 6, "reg": 2, "jaccard": 16 / 6})
    means = complete_means(two_encoders, "macro_f1_tuned")
    gaps = {column: means["jaccard"][column] - means["bce"][column] for column in means["bce"]}
    of_datasets = [np.mean([gaps[d, e] for e in encoders]) for d, encoders in COMPLETE.items()]
    table = best_against_each_table(two_encoders)
    cells = {row.key[0]: row.cells for row in table.rows}["jaccard"]
    assert cells[1].value == pytest.approx(np.mean(of_datasets))
    assert cells[4].value == pytest.approx(np.mean([(-1 + 1) / 2, -1, -1, -1, -1, -1]))
    note = "A dataset with several encoders counts once"
    assert all(note in figure.caption for figure in ranks.draw(two_encoders))
    assert note in table.caption
    assert note in differences_table(two_encoders, Contrasts(two_encoders)).caption


def test_the_chance_to_win_is_over_the_datasets_of_the_rest_of_the_row(two_encoders):
    cells = {row.key[0]: row.cells for row in best_against_each_table(two_encoders).rows}["jaccard"]
    assert cells[3].value == pytest.approx(np.mean([(0 + 1) / 2, 0, 0, 0, 0, 0]))


def test_one_encoder_needs_no_note(six_datasets):
    assert note_on_encoders(six_datasets.outline) == ""


def test_tests_of_ranks_speak_from_six_datasets_on(six_datasets):
    found = rank_losses(six_datasets, "macro_f1_tuned")
    assert (
        f"The ranks of losses differ over 6 datasets (Friedman, p = {found.p_value:.2g}): bce ranks above"
        in told(six_datasets)
    )
