"""Statistics against scipy, scikit-posthocs, statsmodels, scikit-learn and plain loops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from mlcl.evaluation.metrics import best_thresholds, evaluate, evaluate_splits, frequency_bands
from mlcl.reporting.statistics import contrast, datasets, examples, seeds


def test_the_interval_of_a_mean_is_scipys():
    values = [0.70, 0.74, 0.75, 0.71]
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    found = seeds.mean_interval(values)
    assert (found.value, found.low, found.high) == pytest.approx((np.mean(values), low, high))


def test_one_run_has_no_known_spread():
    assert not seeds.mean_interval([0.5]).is_known


def test_welchs_test_is_scipys_and_equal_runs_are_exact():
    a, b = [0.70, 0.74, 0.75], [0.60, 0.71, 0.65, 0.69]
    assert seeds.welch_p_value(a, b) == stats.ttest_ind(a, b, equal_var=False).pvalue
    assert seeds.welch_p_value([0.5, 0.5], [0.5, 0.5]) == 1
    assert seeds.welch_p_value([0.5, 0.5], [0.4, 0.4]) == 0


def test_cliffs_delta_of_known_cases():
    assert seeds.cliffs_delta([3, 4], [1, 2]) == 1
    assert seeds.cliffs_delta([1, 3], [1, 3]) == 0


def make(rows=150, labels=7, skill=0.2, decimals=None, seed=0):
    rng = np.random.default_rng(seed)
    y = np.random.default_rng(99).random((rows, labels)) < 0.25
    p = np.clip(rng.normal(0.35 + skill * y, 0.2), 0, 1).astype(np.float32)
    return examples.Scored(y, p.round(decimals) if decimals else p)


@pytest.mark.parametrize("metric", sorted(examples.METRICS))
@pytest.mark.parametrize("decimals", [None, 1])
def test_a_weight_counts_as_so_many_copies_of_a_row(metric, decimals):
    scored = make(decimals=decimals)
    weights = np.random.default_rng(0).integers(0, 3, size=(20, 150)).astype(np.float32)
    values = examples.prepare(scored, metric)(weights)
    for value, weight in zip(values, weights, strict=True):
        drawn = np.repeat(np.arange(150), weight.astype(int))
        assert value == pytest.approx(evaluate(scored.labels[drawn], scored.scores[drawn])[metric], abs=1e-5)


def test_tuned_thresholds_and_bands_are_those_of_the_metrics():
    scored = make()
    counts = np.array([90, 80, 70, 60, 50, 40, 30])
    val = make(seed=1)
    expected = evaluate_splits(
        (val.labels, val.scores), (scored.labels, scored.scores), counts.tolist(), 100
    )["test"]
    full = replace(scored, tuned=best_thresholds(val.labels, val.scores), bands=frequency_bands(counts))
    every = np.ones((1, 150), dtype=np.float32)
    for metric in ("macro_f1_tuned", "hamming_loss_tuned", "macro_f1_tail", "map_head"):
        assert examples.prepare(full, metric)(every)[0] == pytest.approx(expected[metric], abs=1e-6)


def test_what_cannot_be_computed_is_refused():
    assert not examples.is_supported("lrap")
    assert not examples.is_supported("map_tuned")
    for metric, message in (
        ("lrap", "not supported"),
        ("map_tail", "'tail'"),
        ("micro_f1_tuned", "thresholds"),
    ):
        with pytest.raises(ValueError, match=message):
            examples.without_groups(make(), metric)


def test_the_jackknife_of_a_mean_is_its_sample_variance():
    scored = make(rows=80)
    right = (scored.labels == (scored.scores > 0.5)).all(axis=1).astype(float)
    values = examples.without_groups(scored, "subset_accuracy")
    assert values.shape == (80,)  # fewer rows than groups: one row in each
    assert examples.covariance(values[None])[0, 0] == pytest.approx(np.var(right, ddof=1) / 80, rel=1e-3)


def test_groups_are_the_same_for_all_losses_of_a_dataset():
    a, b = make(rows=300, skill=0.3), make(rows=300, skill=0.3, seed=1)
    values = np.stack([examples.without_groups(one, "macro_f1") for one in (a, a, b)])
    found = examples.covariance(values)
    assert found[0, 0] == pytest.approx(found[0, 1])
    assert 0 < found[0, 2] < found[0, 0]  # the same examples, other noise


def row(weight, values, without_groups=None):
    return contrast.Row(weight, values, without_groups)


def test_over_seeds_alone_a_difference_has_welchs_interval():
    a, b = [0.70, 0.74, 0.75], [0.60, 0.71, 0.65, 0.69]
    expected = stats.ttest_ind(a, b, equal_var=False)
    bounds = expected.confidence_interval(0.95)
    found = contrast.contrast([row(1, a), row(-1, b)])
    assert (found.interval().low, found.interval().high) == pytest.approx((bounds.low, bounds.high))
    assert found.p_value == pytest.approx(expected.pvalue)
    assert not found.covers_examples


def test_one_run_decides_nothing_and_no_spread_decides_exactly():
    found = contrast.contrast([row(1, [0.5, 0.6]), row(-1, [0.4])])
    assert (found.interval().is_known, found.p_value) == (False, 1.0)
    exact = contrast.contrast([row(1, [0.5, 0.5]), row(-1, [0.4, 0.4])])
    assert exact.interval() == seeds.Estimate(exact.value, exact.value, exact.value)


def test_noise_between_seeds_is_counted_once():
    """Variance of the mean of S seeds: their own spread / S, and what their examples have in common."""
    rng = np.random.default_rng(0)
    runs, groups = 4, 50
    shared, own = rng.normal(size=groups), rng.normal(size=(runs, groups))
    values = (shared + own) / groups
    found = contrast.contrast([row(1, rng.normal(size=runs).tolist(), values)])
    between = examples.covariance(values)
    off_diagonal = (between.sum() - np.trace(between)) / (runs * (runs - 1))
    assert found.example_variance == pytest.approx(off_diagonal)


def test_the_variance_between_seeds_is_at_least_that_of_the_other_losses():
    calm, wild = [0.50, 0.50, 0.51], [0.3, 0.6, 0.9]
    pool = contrast.Pool(0.01, 8.0)
    found = contrast.contrast([contrast.Row(w, calm, None, pool) for w in (1, -1)])
    assert (found.seed_variance, found.freedom) == (pytest.approx(2 / 3 * 0.01), pytest.approx(8))
    found = contrast.contrast([contrast.Row(1, calm, None, pool), contrast.Row(-1, wild, None, pool)])
    assert found.seed_variance == pytest.approx((np.var(calm, ddof=1) + np.var(wild, ddof=1)) / 3)


def test_datasets_are_independent():
    one = contrast.contrast([row(1, [0.5, 0.6, 0.8]), row(-1, [0.4, 0.5, 0.5])])
    mean = contrast.mean_of([one, one])
    assert mean.value == pytest.approx(one.value)
    assert mean.seed_variance == pytest.approx(one.seed_variance / 2)
    assert mean.freedom == pytest.approx(2 * one.freedom)


@pytest.mark.parametrize(
    ("methods", "freedom", "confidence"), [(3, 2.0, 0.95), (4, 8.3, 0.95), (10, 3.3, 0.99), (5, np.inf, 0.95)]
)
def test_simultaneous_intervals_take_the_studentised_range(methods, freedom, confidence):
    expected = stats.studentized_range.ppf(confidence, methods, freedom) / np.sqrt(2)
    assert contrast.critical_value(freedom, confidence, methods) == pytest.approx(expected, rel=1e-3)
    assert contrast.critical_value(8.3, 0.95) == stats.t.ppf(0.975, 8.3)


def random_scores(methods=5, sets=8, seed=0):
    rng = np.random.default_rng(seed)
    return {f"m{m}": {f"d{d}": float(rng.normal(0.1 * m)) for d in range(sets)} for m in range(methods)}


def as_table(scores):
    return np.array([[scores[m][d] for m in scores] for d in scores["m0"]])


def test_ranks_friedman_and_nemenyi_equal_the_libraries():
    posthocs = pytest.importorskip("scikit_posthocs", reason="scikit-posthocs is not installed")
    scores = random_scores()
    found = datasets.rank_methods(scores)
    table = as_table(scores)
    assert list(found.ranks.values()) == pytest.approx(stats.rankdata(-table, axis=1).mean(axis=0))
    assert found.p_value == pytest.approx(stats.friedmanchisquare(*table.T).pvalue)
    nemenyi = posthocs.posthoc_nemenyi_friedman(table).to_numpy()
    ranks = np.array(list(found.ranks.values()))
    apart = np.abs(np.subtract.outer(ranks, ranks)) > found.critical_difference
    assert np.array_equal(apart, nemenyi < 0.05)


def test_the_critical_difference_is_the_published_one():
    # Demsar (2006), section 3.2.2: 4 classifiers, 14 data sets, q = 2.569: CD = 1.25.
    assert datasets.critical_difference(4, 14) == pytest.approx(1.25, abs=0.005)


def test_holm_equals_statsmodels():
    multitest = pytest.importorskip("statsmodels.stats.multitest", reason="statsmodels is not installed")
    raw = [0.01, 0.04, 0.03, 0.005, 0.9]
    assert datasets.holm(raw) == pytest.approx(multitest.multipletests(raw, method="holm")[1])


def test_wilcoxon_is_scipys_adjusted_for_all_pairs():
    scores = random_scores(methods=3)
    table = as_table(scores)
    raw = [stats.wilcoxon(table[:, a] - table[:, b]).pvalue for a, b in ((0, 1), (0, 2), (1, 2))]
    assert list(datasets.rank_methods(scores).wilcoxon.values()) == pytest.approx(datasets.holm(raw))


def test_a_dataset_that_a_method_lacks_takes_no_part():
    scores = random_scores()
    del scores["m3"]["d5"]
    found = datasets.rank_methods(scores)
    assert "d5" not in found.datasets
    assert len(found.datasets) == 7
    assert datasets.rank_methods({"a": {"x": 1.0}, "b": {"y": 1.0}}) is None


def test_lower_is_better_turns_the_ranks_round():
    scores = random_scores()
    up, down = (datasets.rank_methods(scores, higher_is_better=flag).ranks for flag in (True, False))
    assert all(up[m] + down[m] == pytest.approx(6) for m in scores)


def test_groups_hold_methods_that_are_not_told_apart():
    ranks = {"a": 1.0, "b": 1.8, "c": 2.6, "d": 4.6}
    found = datasets.Ranking(tuple(ranks), ("x",), ranks, 0.01, 1.0, {})
    assert found.groups() == [("a", "b"), ("b", "c")]


def test_probability_of_improvement_counts_pairs_of_runs():
    assert datasets.probability_of_improvement([1, 3], [2, 2]) == 0.5
    assert datasets.probability_of_improvement([5, 5], [5, 4]) == 0.75
    assert datasets.probability_of_improvement([5, 5], [5, 4], higher_is_better=False) == 0.25
