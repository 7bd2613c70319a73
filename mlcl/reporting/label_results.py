"""Results of single labels: the best losses of a dataset side by side, and which labels the best takes for which."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlcl.evaluation.readouts import preference
from mlcl.records.labels import MEASURES, Confusion
from mlcl.records.outline import Outline
from mlcl.reporting.metric_info import metric_info
from mlcl.reporting.ranking import Column, best_first, complete_means, primary_metric
from mlcl.reporting.results import Results, RowKey

MOST_LOSSES = 3
MOST_LABELS = 30
"""Labels that a table or figure shows; of more, some that are evenly spaced by their frequency."""
MOST_PAIRS = 20
TITLES = {
    "average_precision": "average precision",
    "f1_tuned": "F1 (tuned)",
    "f1": "F1 (0.5)",
    "precision_tuned": "precision (tuned)",
    "recall_tuned": "recall (tuned)",
    "precision": "precision (0.5)",
    "recall": "recall (0.5)",
}
"""Measures in the order in which they are shown."""


@dataclass(frozen=True)
class LabelScores:
    """The losses with the highest means on a dataset, label by label; labels by their frequency in training."""

    dataset: str
    encoder: str
    losses: list[str]
    """Best first."""
    metric: str
    """By which they are the best."""
    labels: list[str]
    train: list[int] | None
    """Training rows that have each label; None without the dataset's card."""
    evaluated: list[int]
    """Rows of the evaluated split that have it."""
    number_of_labels: int
    means: dict[str, dict[str, NDArray[np.float64]]]
    """measure -> loss -> (labels,) mean over the seeds; NaN where no row has the label."""
    spreads: dict[str, dict[str, NDArray[np.float64]]]
    """The standard deviations (ddof 1); NaN with one seed."""
    seeds: int


def best_losses(results: Results, dataset: str) -> tuple[Column, list[str]] | None:
    """The dataset's column in which a loss reaches the highest mean, and all complete losses there, best first.

    By the metric and the means by which the overview and the table of differences name the best loss of a column.
    None where no loss has all its seeds.
    """
    metric = primary_metric(results)
    higher = metric_info(metric).higher_is_better
    means = {
        (column, loss): mean
        for loss, by_column in complete_means(results, metric).items()
        for column, mean in by_column.items()
        if column[0] == dataset
    }
    if not means:
        return None
    order = best_first(means, higher)
    best = order[0][0]
    return best, [loss for column, loss in order if column == best]


def label_scores(results: Results, dataset: str, most: int = MOST_LABELS) -> LabelScores | None:
    """None where no loss has all its seeds, or the scores were not there when results were collected."""
    best = best_losses(results, dataset)
    if best is None:
        return None
    (_, encoder), order = best
    frames = {
        loss: frame
        for loss in order[:MOST_LOSSES]
        if (frame := of_row(results, (dataset, encoder, loss, "base"))) is not None
    }
    if not frames:
        return None
    first = next(iter(frames.values())).drop_duplicates("number").set_index("number").sort_index()
    train = results.training_counts(dataset)
    counts = first["positives"].to_numpy() if train is None else np.array(train)
    order_of_labels = np.argsort(-counts, kind="stable")
    chosen = order_of_labels[evenly_spaced(len(order_of_labels), most)]
    grouped = {loss: frame.groupby("number")[list(MEASURES)] for loss, frame in frames.items()}
    means = {loss: group.mean().loc[chosen] for loss, group in grouped.items()}
    spreads = {loss: group.std().loc[chosen] for loss, group in grouped.items()}
    shown = [m for m in TITLES if any(frame[m].notna().any() for frame in means.values())]
    return LabelScores(
        dataset=dataset,
        encoder=encoder,
        losses=[*frames],
        metric=primary_metric(results),
        labels=first["label"].loc[chosen.tolist()].tolist(),
        train=None if train is None else counts[chosen].tolist(),
        evaluated=first["positives"].loc[chosen.tolist()].tolist(),
        number_of_labels=len(counts),
        means={m: {loss: frame[m].to_numpy() for loss, frame in means.items()} for m in shown},
        spreads={m: {loss: frame[m].to_numpy() for loss, frame in spreads.items()} for m in shown},
        seeds=len(results.outline.seeds),
    )


def of_row(results: Results, row: RowKey) -> pd.DataFrame | None:
    """The lines of labels.csv of a row by the readout of the study's tables; None where there are none."""
    dataset, encoder, loss, variant = row
    labels = results.labels
    lines = labels[
        (labels["dataset"] == dataset)
        & (labels["encoder"] == encoder)
        & (labels["loss"] == loss)
        & (labels["variant"] == variant)
    ]
    readouts = set(lines["readout"])
    for readout in preference(results.outline.readout):
        if readout in readouts:
            return lines[lines["readout"] == readout]
    return None


def evenly_spaced(number: int, most: int) -> NDArray[np.intp]:
    """So many places of `number`, the first and the last among them; all if there are no more."""
    return np.unique(np.linspace(0, number - 1, min(number, most)).round().astype(np.intp))


def caption_of_scores(outline: Outline, scores: LabelScores) -> str:
    """Which losses, which labels, and what a number is."""
    metric, n = metric_info(scores.metric), len(scores.losses)
    where = f"{outline.datasets[scores.dataset].title}, {scores.encoder}"
    losses = "the loss" if n == 1 else f"the {n} losses"
    seeds = (
        "one seed, so that a difference may be chance"
        if scores.seeds == 1
        else f"mean over {scores.seeds} seeds"
    )
    labels = f"{scores.number_of_labels} labels"
    if len(scores.labels) < scores.number_of_labels:
        labels = f"{len(scores.labels)} of {labels}, evenly spaced by frequency (labels.csv has all),"
    tuned = (
        "; decisions at 0.5 and at thresholds tuned on validation"
        if "f1_tuned" in scores.means
        else "; decisions at 0.5"
    )
    return (
        f"{where}: {losses} with the best mean {metric.title}, best first, label by label; {labels} by their frequency "
        f"in {'training' if scores.train is not None else 'the split'}. {outline.split.capitalize()} split, in %, "
        f"{seeds}{tuned}."
    )


@dataclass(frozen=True)
class LabelConfusion:
    """Which labels the best loss of a dataset takes for which. Labels by their frequency."""

    dataset: str
    encoder: str
    loss: str
    labels: list[str]
    shares: NDArray[np.float64]
    """(k, k + 2) by rows, which sum to 1: the label that is predicted instead, another one, none."""
    positives: list[int]
    """Rows that have the label, summed over the seeds."""
    number_of_labels: int
    seeds: int
    tuned: bool

    def most_confused(self, most: int = MOST_PAIRS) -> list[tuple[int, int]]:
        """Pairs (label, label predicted instead) by the number of rows, those of a row or more for each seed."""
        k = len(self.labels)
        rows = self.shares[:, :k] * np.array(self.positives)[:, None]
        rows[np.diag_indices(k)] = 0
        order = np.argsort(-rows, axis=None, kind="stable")[:most]
        pairs = [(int(i), int(j)) for i, j in zip(*np.unravel_index(order, rows.shape), strict=True)]
        return [pair for pair in pairs if rows[pair] >= self.seeds]


def label_confusion(results: Results, dataset: str) -> LabelConfusion | None:
    """None where no loss has all its seeds, or its scores were not there when results were collected."""
    best = best_losses(results, dataset)
    if best is None:
        return None
    (_, encoder), (loss, *_) = best
    stored: Confusion | None = results.confusions.get((dataset, encoder, loss))
    if stored is None:
        return None
    counts, card = results.training_counts(dataset), results.cards.get(dataset)
    names = {n: f"label {n}" for n in stored.labels} if card is None else dict(enumerate(card["labels"]))
    numbers, positives = np.array(stored.labels), np.array(stored.positives)
    frequency = positives if counts is None else np.array(counts)[numbers]
    there = np.flatnonzero(positives > 0)  # a label that no row has cannot be missed
    order = there[np.argsort(-frequency[there], kind="stable")]
    columns = [np.array(stored.instead)[np.ix_(order, order)]]
    absent = np.array(stored.instead)[order].sum(axis=1) - columns[0].sum(axis=1)
    columns += [(np.array(stored.others)[order] + absent)[:, None], np.array(stored.nothing)[order][:, None]]
    return LabelConfusion(
        dataset=dataset,
        encoder=encoder,
        loss=loss,
        labels=[names[int(n)] for n in numbers[order]],
        shares=np.hstack(columns) / positives[order][:, None],
        positives=positives[order].tolist(),
        number_of_labels=len(stored.labels) if card is None else len(card["labels"]),
        seeds=stored.seeds,
        tuned=stored.tuned,
    )


def title_of_confusion(outline: Outline, confusion: LabelConfusion) -> str:
    return (
        f"{outline.datasets[confusion.dataset].title}, {confusion.encoder}, {outline.title_of(confusion.loss)} (the "
        f"best mean there)"
    )


def rule_of_confusion(outline: Outline, confusion: LabelConfusion) -> str:
    """What counts as confused."""
    seeds = "one seed" if confusion.seeds == 1 else f"mean over {confusion.seeds} seeds"
    decisions = "thresholds tuned on validation" if confusion.tuned else "threshold 0.5"
    return (
        f"A row counts where its label is missed and another is predicted wrongly; where several are, in equal parts. "
        f"{outline.split.capitalize()} split, {seeds}, {decisions}."
    )
