"""The conclusions of a study in words: what can be told apart, by how much and how surely; whether the best loss is
better than the baselines; what is close; what to run to know more. Every interval is one of `standings`; those between
losses are the same that the table `differences` shows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from statistics import fmean

from mlcl.records.outline import Outline
from mlcl.reporting.contrasts import Contrasts
from mlcl.reporting.cost_means import compute_seconds
from mlcl.reporting.counts import counted
from mlcl.reporting.metric_info import MetricInfo, metric_info
from mlcl.reporting.ranking import Column, complete_means, primary_metric, rank_losses
from mlcl.reporting.results import Results
from mlcl.reporting.standings import Standing, against_baselines, controls_above, standings
from mlcl.reporting.statistics import ALPHA, FEWEST_DATASETS
from mlcl.reporting.statistics.contrast import Contrast, critical_value
from mlcl.reporting.statistics.seeds import Estimate

MOST_NAMED = 4
MOST_COLUMNS = 6
"""Columns that get a sentence of their own; with more, they are counted."""
CLOSE = 0.01
"""A loss whose whole interval lies within one percentage point of the best is close to it."""
CHEAPER = 0.9
"""A loss is called cheaper below this share of the time."""
MOST_SEEDS = 1000
FEWEST_SEEDS = 3
"""What a study with a single seed is advised to run."""
MOST_ADVISED = 20
"""Seeds, or datasets, that somebody may run to tell two losses apart; more are not advised."""
TABLES = {
    "table of criteria": "criteria",
    "table of differences": "differences",
    "table of chosen settings": "search",
    "table of tuned settings": "tuned",
}
"""What sentences call a table -> its name."""


@dataclass(frozen=True)
class Overview:
    """Sentences, by what they are about; a study has some of each kind or none."""

    apart: tuple[str, ...] = ()
    not_judged: tuple[str, ...] = ()
    baselines: tuple[str, ...] = ()
    close: tuple[str, ...] = ()
    more: tuple[str, ...] = ()
    criteria: tuple[str, ...] = ()
    tuned: tuple[str, ...] = ()

    @property
    def paragraphs(self) -> list[str]:
        kinds = (
            self.apart,
            self.not_judged,
            self.baselines,
            self.close,
            self.more,
            self.criteria,
            self.tuned,
        )
        return [" ".join(sentences) for sentences in kinds if sentences]

    @property
    def by_weight(self) -> list[str]:
        """Sentences in the order in which they are left out last, for where only some have room."""
        return [
            *self.apart[:2],
            *self.baselines,
            *self.not_judged,
            *self.apart[2:],
            *self.more,
        ]


def overview(results: Results, contrasts: Contrasts) -> list[str]:
    """Paragraphs, in the order told apart, not judged, baselines, close, what to run, criteria, what was tuned."""
    return conclude(results, contrasts).paragraphs


def conclude(results: Results, contrasts: Contrasts) -> Overview:
    metric = primary_metric(results)
    all_standings = standings(results, metric, contrasts)
    if not all_standings:
        return Overview(
            apart=(
                "Fewer than two losses have all their seeds on any dataset: there is nothing to compare yet.",
            )
        )
    untrained = _untrained(results, all_standings)
    warning = tuple(_not_judged(results, all_standings, untrained))
    all_standings = standings(results, metric, contrasts, left_out=untrained)
    if not all_standings:
        return Overview(not_judged=warning)
    shown = Overview(
        not_judged=warning,
        criteria=tuple(_criteria(results)),
        tuned=tuple(_tuned(results)),
    )
    below = tuple(_controls(results, metric))
    if not all(standing.is_known for standing in all_standings):
        return replace(
            shown,
            apart=tuple(_one_seed(results, all_standings)),
            baselines=below,
            more=(f"To know more: run at least {FEWEST_SEEDS} seeds.",),
        )
    return replace(
        shown,
        apart=tuple(_told_apart(results, all_standings)),
        baselines=(*_beside_baselines(results, contrasts, all_standings), *below),
        close=tuple(_close(results, all_standings)),
        more=tuple(_what_to_run(results, all_standings)),
    )


# --- What no conclusion is drawn from --------------------------------------------------------------------------


def _untrained(results: Results, everything: Sequence[Standing]) -> dict[Column, dict[str, tuple[str, ...]]]:
    """Column -> loss -> why it was not trained to its end there."""
    found: dict[Column, dict[str, tuple[str, ...]]] = {}
    for standing in everything:
        if (column := standing.column) is None:
            continue
        for loss in standing.means:
            state = results.rows.get((*column, loss, "base"))
            if state is not None and state.untrained:
                found.setdefault(column, {})[loss] = state.untrained
    return found


def _not_judged(
    results: Results,
    everything: Sequence[Standing],
    untrained: Mapping[Column, Mapping[str, tuple[str, ...]]],
) -> Iterator[str]:
    """Losses that were not trained to the end lose by their budget, not by what they are."""
    title = results.outline.title_of
    if untrained:
        yield (
            "What was not trained to the end is not judged; more epochs or another learning rate, the same for all "
            "losses, would tell."
        )
    for standing in everything:
        losses = untrained.get(standing.column, {}) if standing.column is not None else {}
        if not losses:
            continue
        reasons = Counter(remark.partition(" (")[0] for own in losses.values() for remark in own)
        names, are = listed([title(loss) for loss in losses]), "is" if len(losses) == 1 else "are"
        if len(standing.means) - len(losses) < 2:
            said = f"no conclusion is drawn: not trained to the end {are} {names}"
        else:
            said = f"{names} {are} not judged"
        yield f"On {standing.title}, {said} ({', '.join(reasons)})."


# --- What can be told apart ----------------------------------------------------------------------------------


def _told_apart(results: Results, all_standings: Sequence[Standing]) -> Iterator[str]:
    yield f"Losses are judged by {_judged_by(results, all_standings[0].metric)}."
    shown = _with_a_sentence(all_standings)
    for standing in shown:
        yield in_words(standing, results.outline)
    if len(shown) < len(all_standings):
        columns = [standing for standing in all_standings if standing.column is not None]
        clear = [standing for standing in columns if not standing.tied]
        count = f"{len(clear)} of {len(columns)}" if clear else f"none of {len(columns)}"
        yield (
            f"Taken alone, {count} datasets (with their encoders) have one loss that is better than all others"
            + (f": {_winners(results, clear)}" if clear else "")
            + "; the table of differences has each of them."
        )
    yield from _ranks(results, all_standings)
    over = (
        "training anew and other test examples"
        if all(s.covers_examples for s in all_standings)
        else "training anew"
    )
    yield (
        f"Intervals cover {over}, and hold together for all pairs of losses "
        + ("and all columns " if len(all_standings) > 1 else "")
        + f"with {100 * (1 - ALPHA):.0f} % confidence."
    )


def _with_a_sentence(all_standings: Sequence[Standing]) -> Sequence[Standing]:
    """All of them, or of many the mean alone."""
    if len(all_standings) <= MOST_COLUMNS:
        return all_standings
    return [s for s in all_standings if s.column is None] or all_standings[:1]


def _judged_by(results: Results, metric: MetricInfo) -> str:
    """The metric, and the table that has it where that is not the main one."""
    if metric.name in results.outline.metrics:
        return metric.title
    return f"{metric.title}, see the table of criteria"


def in_words(standing: Standing, outline: Outline) -> str:
    """Which losses the best one can be told from, and by how much; intervals must be known."""
    title = outline.title_of
    where = f"On {standing.title}"
    first = f"{title(standing.best)} ({value(standing, standing.best)})"
    if not standing.tied:
        second = standing.order[1]
        others = " and all others" if len(standing.order) > 2 else ""
        return (
            f"{where}, {first} is better than {title(second)}{others}: {lead(standing, second)} ahead of it."
        )
    if not standing.apart:
        extreme = "highest" if standing.metric.higher_is_better else "lowest"
        return (
            f"{where}, these losses cannot be told apart: {listed([title(s) for s in standing.order])}; the {extreme} "
            f"mean is that of {first}, {lead(standing, standing.order[1])} from {title(standing.order[1])}."
        )
    nearest = standing.apart[0]
    return (
        f"{where}, {first} is better than {listed([title(s) for s in standing.apart])} ({lead(standing, nearest)} "
        f"ahead of {title(nearest)}), and cannot be told from {listed([title(s) for s in standing.tied])} "
        f"({lead(standing, standing.tied[0])} from {title(standing.tied[0])})."
    )


def _ranks(results: Results, all_standings: Sequence[Standing]) -> Iterator[str]:
    """A test of ranks speaks of datasets like these; it needs enough of them."""
    if any(state.untrained for (*_, variant), state in results.rows.items() if variant == "base"):
        return
    ranking = rank_losses(results, all_standings[0].metric.name)
    if ranking is None or len(ranking.datasets) < FEWEST_DATASETS or ranking.p_value is None:
        return
    n = len(ranking.datasets)
    if ranking.p_value >= ALPHA:
        yield (
            f"Over {n} datasets the ranks of losses differ no more than by chance (Friedman, p = "
            f"{ranking.p_value:.2g}), so nothing is said of other datasets."
        )
        return
    title, best = results.outline.title_of, ranking.order[0]
    tied = [
        m for m in ranking.order[1:] if ranking.ranks[m] - ranking.ranks[best] <= ranking.critical_difference
    ]
    apart = [m for m in ranking.order[1:] if m not in tied]
    text = f"The ranks of losses differ over {n} datasets (Friedman, p = {ranking.p_value:.2g})"
    if apart:
        text += f": {title(best)} ranks above {listed([title(m) for m in apart])} (Nemenyi)"
    yield text + "."


def _winners(results: Results, standings_: Sequence[Standing]) -> str:
    by_loss: dict[str, list[str]] = {}
    for standing in standings_:
        by_loss.setdefault(standing.best, []).append(standing.title)
    return "; ".join(
        f"{results.outline.title_of(loss)} on {listed(places)}" for loss, places in by_loss.items()
    )


def _one_seed(results: Results, all_standings: Sequence[Standing]) -> Iterator[str]:
    judged = _judged_by(results, all_standings[0].metric)
    yield "Cells ran with one seed, so how much training runs differ is unknown: no loss is recommended."
    title = results.outline.title_of
    described = [
        f"on {s.title} " + ", ".join(f"{title(loss)} {value(s, loss)}" for loss in s.order[:MOST_NAMED])
        for s in _with_a_sentence(all_standings)
    ]
    yield f"As a description of these runs, by {judged}: {'; '.join(described)}."


# --- Baselines -----------------------------------------------------------------------------------------------


def _beside_baselines(
    results: Results, contrasts: Contrasts, all_standings: Sequence[Standing]
) -> Iterator[str]:
    """Where the best loss is no better than a baseline, the losses say nothing, whichever of them leads."""
    title = results.outline.title_of
    shown = _with_a_sentence(all_standings)
    no_better = []
    for standing in all_standings:
        found: dict[str, list[str]] = {}
        for baseline, lead_over in against_baselines(results, contrasts, standing).items():
            if lead_over.interval.low > 0 and standing.metric.is_visible(lead_over.interval.value):
                continue
            verdict = "is below" if lead_over.interval.high < 0 else "cannot be told from"
            alone = ", over seeds alone" if standing.covers_examples > lead_over.covers_examples else ""
            found.setdefault(verdict, []).append(
                f"{title(baseline)} (lead {with_interval(lead_over.interval, standing.metric)}{alone})"
            )
        if found:
            no_better.append(standing)
        if found and standing in shown:
            verdicts = " and ".join(
                f"{verdict} the baseline{'s' * (len(baselines) > 1)} {listed(baselines)}"
                for verdict, baselines in found.items()
            )
            best = f"{title(standing.best)} ({value(standing, standing.best)})"
            yield f"On {standing.title}, even the best loss, {best}, {verdicts}."
    columns = [standing for standing in all_standings if standing.column is not None]
    if len(shown) < len(all_standings) and (places := [s.title for s in columns if s in no_better]):
        yield (
            f"Taken alone, on {len(places)} of {len(columns)} datasets (with their encoders) the best loss is no "
            f"better than a baseline, as far as can be told: {listed(places)}."
        )


def _controls(results: Results, metric: str) -> Iterator[str]:
    for loss, baselines in controls_above(results, metric).items():
        title = results.outline.title_of
        below = (
            f"{title(loss)} is below {listed([title(b) for b in baselines])} in {metric_info(metric).title}"
        )
        if len(results.outline.seeds) == 1:
            yield f"{below} in its one run."
        else:
            yield f"{below}: it learned nothing useful with these settings."


# --- What is close -------------------------------------------------------------------------------------------


def _close(results: Results, all_standings: Sequence[Standing]) -> Iterator[str]:
    title = results.outline.title_of
    for standing in all_standings[:MOST_COLUMNS]:
        if not standing.metric.is_percentage:
            continue
        close = [
            loss
            for loss in standing.order[1:]
            if standing.intervals[loss].low >= -CLOSE and standing.intervals[loss].high <= CLOSE
        ]
        if close:
            yield (
                f"On {standing.title}, {listed([title(loss) for loss in close])} "
                f"{'is' if len(close) == 1 else 'are'} within a point of {title(standing.best)}, interval included."
            )
    yield from _cheaper(results, all_standings[0])


def _cheaper(results: Results, standing: Standing) -> Iterator[str]:
    """The cheapest loss that cannot be told from the best one."""
    seconds = compute_seconds(results)
    columns = [standing.column] if standing.column else results.outline.columns()
    costs = {
        loss: fmean(times)
        for loss in [standing.best, *standing.tied]
        if (times := [seconds[*c, loss, "base"] for c in columns if (*c, loss, "base") in seconds])
        and len(times) == len(columns)
    }
    if standing.best not in costs:
        return
    cheapest = min(costs, key=costs.__getitem__)
    if costs[cheapest] < CHEAPER * costs[standing.best]:
        title = results.outline.title_of
        yield (
            f"{title(cheapest)}, which cannot be told from {title(standing.best)} on {standing.title}, takes "
            f"{100 * costs[cheapest] / costs[standing.best]:.0f} % of its compute time."
        )


# --- What to run ---------------------------------------------------------------------------------------------


def _what_to_run(results: Results, all_standings: Sequence[Standing]) -> Iterator[str]:
    """How many seeds, datasets like these, or of a single dataset test rows, would tell the best two apart if their
    difference stays as it is."""
    standing = all_standings[0]
    second = standing.order[1]
    if standing.is_apart(second):
        return
    gap = standing.gaps[second]
    title = results.outline.title_of
    pair = f"{title(standing.best)} and {title(second)} on {standing.title}"
    if not standing.metric.is_visible(gap.value):
        yield f"To know more: {pair} are equal to the printed digit; more runs would hardly tell them apart."
        return
    ways = []
    if (seeds := seeds_needed(gap, standing)) is not None and seeds <= MOST_ADVISED:
        ways.append(f"{seeds} seeds in place of {standing.seeds}")
    n = len(standing.datasets)
    factor = rows_factor(gap, standing) if n == 1 else variance_factor(gap, standing)
    if factor is not None and (needed := ceil(n * factor)) <= MOST_ADVISED:
        ways.append(
            f"{needed} times the test rows" if n == 1 else f"{needed} datasets like these in place of {n}"
        )
    if ways:
        yield (
            f"To know more, if the difference between {pair} stays as it is: about {', or about '.join(ways)} would "
            "tell them apart."
        )
    else:
        instead = f"{MOST_ADVISED} times the test rows" if n == 1 else "datasets"
        yield (
            f"More runs will not tell {pair} apart in practice: if the difference between them stays as it is, that "
            f"takes more than {MOST_ADVISED} seeds or {instead}."
        )


def seeds_needed(gap: Contrast, standing: Standing) -> int | None:
    """Seeds with which the interval of a gap of this size would exclude 0; None if no number of them would do."""

    def separates(seeds: int) -> bool:
        planned = replace(
            gap,
            seed_variance=gap.seed_variance * standing.seeds / seeds,
            seed_freedom=gap.seed_freedom * (seeds - 1) / (standing.seeds - 1),
        )
        half = critical_value(planned.freedom, standing.confidence, len(standing.order)) * planned.error
        return half < abs(gap.value)

    if not separates(MOST_SEEDS):
        return None
    too_few, enough = standing.seeds, MOST_SEEDS
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        too_few, enough = (too_few, middle) if separates(middle) else (middle, enough)
    return enough


def variance_factor(gap: Contrast, standing: Standing) -> float | None:
    """By how much the variance of a gap must fall for its interval to exclude 0; None if it does already."""
    needed = (
        critical_value(gap.freedom, standing.confidence, len(standing.order)) * gap.error / gap.value
    ) ** 2
    return needed if needed > 1 else None


def rows_factor(gap: Contrast, standing: Standing) -> float | None:
    """How many times the test rows would make the interval of a gap exclude 0; None if no number of them would, since
    what is left differs between training runs."""
    factor = variance_factor(gap, standing)
    if factor is None or not gap.covers_examples:
        return None
    left = (gap.seed_variance + gap.example_variance) / factor - gap.seed_variance
    return gap.example_variance / left if left > 0 else None


# --- Criteria ------------------------------------------------------------------------------------------------


def _criteria(results: Results) -> Iterator[str]:
    """Which loss has the best mean by ranking quality, and by decisions at tuned thresholds and at 0.5."""
    title = results.outline.title_of
    best: dict[str, str] = {}
    for name in ("map", "macro_f1_tuned", "macro_f1"):
        means = complete_means(results, name)
        shared = (
            set.intersection(*(set(by_column) for by_column in means.values())) if len(means) > 1 else set()
        )
        if shared:
            averages = {
                loss: fmean(by_column[column] for column in shared) for loss, by_column in means.items()
            }
            best[name] = max(averages, key=averages.__getitem__)
    if len(best) < 2:
        return
    mean = "mean" if len(results.outline.seeds) > 1 else "value of these single runs"
    words = {"map": "mAP", "macro_f1_tuned": "macro-F1 at tuned thresholds", "macro_f1": "macro-F1 at 0.5"}
    if len(set(best.values())) == 1:
        same = title(next(iter(best.values())))
        yield f"{same} has the highest {mean} by all criteria: {listed([words[name] for name in best])}."
    else:
        winners = ", ".join(f"by {words[name]} {title(loss)}" for name, loss in best.items())
        yield f"The criteria disagree about the highest {mean}: {winners}; the table of criteria has them side by side."


# --- What was tuned ------------------------------------------------------------------------------------------


def _tuned(results: Results) -> Iterator[str]:
    outline = results.outline
    if (search := outline.search) is not None:
        keys = dict.fromkeys([*search.space, *(key for own in search.losses.values() for key in own)])
        yield (
            f"Settings were tuned: on each dataset and encoder every loss had {counted(search.trials, 'trial')}, in "
            f"which {listed([key.replace('_', ' ') for key in keys])} were searched, judged by "
            f"{metric_info(search.metric).title} on validation; see the table of chosen settings."
        )
    elif outline.tuned is not None:
        yield "Losses have settings of their own that an earlier search chose; see the table of tuned settings."
    else:
        yield "Settings were not tuned: those of the study may suit one loss better than another (a search would tell)."


# --- Words ---------------------------------------------------------------------------------------------------


def value(standing: Standing, loss: str) -> str:
    """The mean of a loss as it is printed."""
    return f"{standing.means[loss] * standing.metric.scale:.{standing.metric.decimals}f}"


def lead(standing: Standing, loss: str) -> str:
    """How far the best is ahead of a loss, with its interval; points where the metric is a percentage."""
    sign = -1 if standing.metric.higher_is_better else 1
    return with_interval(standing.intervals[loss].scaled(sign), standing.metric)


def with_interval(difference: Estimate, metric: MetricInfo) -> str:
    """A difference in the metric's own units as it is printed."""
    shown = difference.scaled(metric.scale)
    digits = f".{metric.decimals}f"
    unit = " points" if metric.is_percentage else ""
    return f"{shown.value:{digits}}{unit} [{shown.low:{digits}}, {shown.high:{digits}}]"


def listed(names: Sequence[str]) -> str:
    """`a, b and c`; of many names the first ones and a count."""
    if len(names) > MOST_NAMED + 1:
        return f"{', '.join(names[:MOST_NAMED])} and {len(names) - MOST_NAMED} more"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
