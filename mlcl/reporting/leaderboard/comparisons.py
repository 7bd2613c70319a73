"""Losses compared where they can be: in one study, on datasets of one modality and range of numbers of labels, with one
amount of training data, by one readout.

Studies differ in encoders, settings and losses, so they stand side by side and are not averaged. Within a comparison
every dataset counts once. What would make the comparison unfair is left out and named: a dataset on which most losses
have cells missing; a loss that failed, does not run, has cells missing or was not trained to its end on a dataset that
is left. Where most losses were not trained to their end, the budget is short for all of them: they are compared, and it
is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import inf
from statistics import fmean
from typing import Literal

from mlcl.evaluation.readouts import READOUTS
from mlcl.reporting.contrasts import Contrasts
from mlcl.reporting.cost_means import compute_seconds
from mlcl.reporting.metric_info import metric_info
from mlcl.reporting.ranking import Column, complete_means, primary_metric
from mlcl.reporting.results import Results, RowState
from mlcl.reporting.standings import Family, Standing, compare, equal_weights
from mlcl.reporting.statistics import ALPHA

Grade = Literal["A", "B", "C", "D"]
GRADES: dict[Grade, str] = {
    "A": "every cell is there, every loss was trained to its end and is better than the controls",
    "B": "losses are left out that failed or were not trained to their end, or some are below a control",
    "C": "cells are missing, or on a dataset most losses were not trained to their end",
    "D": "no statement: one seed, or fewer than two losses that can be compared",
}
RANKING_QUALITY = "map"
"""Shown beside the metric that losses are judged by."""
MANY = 0.5
"""Most losses: more than this share of those of a dataset."""


@dataclass(frozen=True)
class LabelRange:
    """Datasets by their number of labels."""

    over: int
    at_most: float
    title: str

    def holds(self, labels: int) -> bool:
        return self.over < labels <= self.at_most


RANGES = (
    LabelRange(0, 20, "at most 20"),
    LabelRange(20, 100, "21 to 100"),
    LabelRange(100, inf, "more than 100"),
)


@dataclass(frozen=True)
class Place:
    """What a comparison is about. `fraction`: of the training rows."""

    modality: str
    labels: LabelRange
    fraction: float
    readout: str

    @property
    def data(self) -> str:
        return amount_in_words(self.fraction)


@dataclass(frozen=True)
class Study:
    """A kept study; `name`: of its folder."""

    name: str
    results: Results
    contrasts: Contrasts

    @property
    def has_intervals(self) -> bool:
        return len(self.results.outline.seeds) > 1

    def with_readout(self, readout: str | None) -> Study:
        return Study(self.name, self.results.with_readout(readout), self.contrasts.with_readout(readout))


@dataclass(frozen=True)
class Comparison:
    """`columns`: those that count; `left_out`: column -> why it does not; `short`: a column that counts though most
    losses were not trained to their end there -> how many; `not_judged`: loss -> why it is left out.

    `standing` is None where fewer than two losses are left. `seconds`, `ranking_quality`: loss -> mean over `columns`.
    """

    study: Study
    place: Place
    variant: str
    columns: tuple[Column, ...]
    left_out: dict[Column, str]
    short: dict[Column, str]
    not_judged: dict[str, str]
    standing: Standing | None
    seconds: dict[str, float]
    ranking_quality: dict[str, float]
    below_controls: dict[str, list[str]]
    """loss -> the baselines with a better mean over the columns."""
    waiting: bool
    """Whether a loss is left out for cells that are missing."""

    @property
    def grade(self) -> Grade:
        if self.standing is None or not self.standing.is_known:
            return "D"
        if self.left_out or self.short or self.waiting:
            return "C"
        return "B" if self.not_judged or self.below_controls else "A"

    @property
    def leaders(self) -> list[str]:
        """The best loss and those that cannot be told from it; none without intervals."""
        if self.standing is None or not self.standing.is_known:
            return []
        return [self.standing.best, *self.standing.tied]


def amount_in_words(fraction: float) -> str:
    return {1.0: "all", 0.1: "a tenth"}.get(fraction, f"{100 * fraction:g} %")


def comparisons(study: Study) -> list[Comparison]:
    """All of a study. Their intervals hold together: Bonferroni's rule over those with two losses or more."""
    drafts = [
        draft
        for place, variant, columns in _places(study.results)
        if (draft := _draft(study, place, variant, columns))
    ]
    comparable = sum(len(draft.losses) > 1 and bool(draft.columns) for draft in drafts)
    return [_compared(draft, 1 - ALPHA / max(comparable, 1)) for draft in drafts]


def shown_readouts(results: Results) -> list[str]:
    """That of the study's tables, then the others."""
    own = results.outline.readout
    return [own, *(readout for readout in READOUTS if readout in results.outline.readouts and readout != own)]


def fraction_of(results: Results, dataset: str, variant: str) -> float | None:
    """The share of the training rows; None for a variant that changes anything else."""
    changes = results.outline.changes_of(variant)
    if not changes:
        return results.outline.datasets[dataset].fraction
    if set(changes) == {"dataset"} and set(changes["dataset"]) == {"fraction"}:
        return float(changes["dataset"]["fraction"])
    return None


def _places(results: Results) -> Iterator[tuple[Place, str, list[Column]]]:
    outline = results.outline
    modalities = dict.fromkeys(dataset.modality for dataset in outline.datasets.values())
    for modality, labels, readout in product(modalities, RANGES, shown_readouts(results)):
        found: dict[tuple[float, str], list[Column]] = {}
        for variant, column in product(outline.variants, outline.columns()):
            fraction = fraction_of(results, column[0], variant)
            number = results.labels_of(column[0])
            same = outline.datasets[column[0]].modality == modality
            if fraction is not None and same and number is not None and labels.holds(number):
                found.setdefault((fraction, variant), []).append(column)
        for (fraction, variant), columns in sorted(found.items(), key=lambda one: -one[0][0]):
            yield Place(modality, labels, fraction, readout), variant, columns


@dataclass(frozen=True)
class _Draft:
    """Who is compared where, before anything is computed."""

    study: Study
    place: Place
    variant: str
    losses: list[str]
    columns: list[Column]
    left_out: dict[Column, str]
    short: dict[Column, str]
    not_judged: dict[str, str]
    waiting: bool


def _draft(study: Study, place: Place, variant: str, columns: Sequence[Column]) -> _Draft | None:
    """None where fewer than two losses have the readout, and for a readout other than that of the study's tables where
    no dataset is left."""
    own, study = study.results.outline.readout, study.with_readout(place.readout)
    results = study.results
    losses = [loss for loss in results.outline.losses if _takes_part(loss, results, variant, columns)]
    if len(losses) < 2:
        return None
    states = {
        column: {
            loss: results.rows[row]
            for loss in losses
            if (row := (*column, loss, variant)) in results.rows and not results.rows[row].skipped
        }
        for column in columns
    }
    left_out = {column: why for column in columns if (why := _why_left_out(states[column]))}
    kept = [column for column in columns if column not in left_out]
    if not kept and place.readout != own:
        return None
    short = {column: how for column in kept if (how := _how_short(states[column]))}
    not_judged: dict[str, str] = {}
    for loss, column in product(losses, kept):
        if why := _why_not_judged(states[column].get(loss), column not in short):
            not_judged.setdefault(loss, f"{why} on {results.outline.column_title(*column)}")
    judged = [loss for loss in losses if loss not in not_judged]
    waiting = any(states[column][loss].waiting for column in kept for loss in states[column])
    return _Draft(study, place, variant, judged, kept, left_out, short, not_judged, waiting)


def _takes_part(loss: str, results: Results, variant: str, columns: Sequence[Column]) -> bool:
    """Whether a loss that the study asks for on these columns has the readout: as its results show, wherever they are,
    because one whose runs are missing here is to be told of and not passed over."""
    rows = (results.rows.get((*column, loss, variant)) for column in columns)
    if all(row is None or row.skipped for row in rows):
        return False
    everywhere = product(results.outline.columns(), results.outline.variants)
    return any(results.has_readout((*column, loss, one)) for column, one in everywhere)


def _why_left_out(states: dict[str, RowState]) -> str:
    waiting = sum(bool(state.waiting) for state in states.values())
    if waiting > MANY * len(states):
        return f"{waiting} of {len(states)} losses have cells missing"
    return "" if len(states) > 1 else "no two losses ran there"


def _how_short(states: dict[str, RowState]) -> str:
    """How many losses were not trained to their end, where these are most."""
    untrained = sum(bool(state.untrained) for state in states.values())
    return f"{untrained} of {len(states)} losses" if untrained > MANY * len(states) else ""


def _why_not_judged(state: RowState | None, trained: bool) -> str:
    """`trained`: whether it counts that training did not reach its end."""
    if state is None:
        return "it does not run"
    if state.ok + state.waiting < state.expected:
        failed = next(problem for problem in state.problems if not problem.endswith((": missing", ": stale")))
        return f"failed ({failed})"
    if state.waiting:
        return f"{state.waiting} of {state.expected} cells are missing"
    return f"not trained to its end ({state.untrained[0]})" if state.untrained and trained else ""


def _compared(draft: _Draft, confidence: float) -> Comparison:
    results, metric = draft.study.results, primary_metric(draft.study.results)
    weights = equal_weights(draft.columns)
    losses = draft.losses
    standing = None
    if len(losses) > 1 and draft.columns:
        n = len(draft.columns)
        title = results.outline.column_title(*draft.columns[0]) if n == 1 else f"the mean over {n} datasets"
        family = Family(confidence, len(losses))
        standing = compare(
            results,
            metric,
            draft.study.contrasts,
            weights,
            losses,
            family,
            title=title,
            variant=draft.variant,
        )
    return Comparison(
        draft.study,
        draft.place,
        draft.variant,
        tuple(draft.columns),
        draft.left_out,
        draft.short,
        draft.not_judged,
        standing,
        _means(compute_seconds(results), draft),
        _ranking_quality(draft, weights),
        _below_controls(draft, metric) if standing is not None else {},
        draft.waiting,
    )


def _means(seconds: dict[tuple[str, ...], float], draft: _Draft) -> dict[str, float]:
    """loss -> mean over the columns, where it is known for all of them."""
    values = {
        loss: [seconds.get((*column, loss, draft.variant)) for column in draft.columns]
        for loss in draft.losses
    }
    return {
        loss: fmean(known)
        for loss, of_columns in values.items()
        if of_columns
        and len(known := [value for value in of_columns if value is not None]) == len(of_columns)
    }


def _ranking_quality(draft: _Draft, weights: dict[Column, float]) -> dict[str, float]:
    means = complete_means(draft.study.results, RANKING_QUALITY, draft.variant)
    return {
        loss: sum(weight * means[loss][column] for column, weight in weights.items())
        for loss in draft.losses
        if weights and all(column in means.get(loss, {}) for column in draft.columns)
    }


def _below_controls(draft: _Draft, metric: str) -> dict[str, list[str]]:
    """Against the baselines of the same amount of data: they run in the study itself only."""
    if draft.variant != "base":
        return {}
    results, info = draft.study.results, metric_info(metric)
    outline = results.outline
    means = complete_means(results, metric)
    found: dict[str, list[str]] = {}
    for baseline, loss in product(outline.baselines, draft.losses):
        pairs = []
        for column in draft.columns:
            row = results.row_for(*column, baseline)
            if row and (summary := results.mean_sd_n(row, outline.split, metric)):
                pairs.append((means[loss][column], summary[0]))
        if pairs and info.better(fmean(control for _, control in pairs), fmean(own for own, _ in pairs)):
            found.setdefault(loss, []).append(baseline)
    return found
