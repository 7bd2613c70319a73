"""Each label of each cell, from stored scores: `labels.csv`, and `confusions.json`, which labels losses take for which.

Both are written when records are collected, so that tables and figures of labels need no scores.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlcl.digests import sealed, sha256_of
from mlcl.errors import RecordError
from mlcl.evaluation import metrics, per_label
from mlcl.evaluation.metrics import THRESHOLD, UNKNOWN, average_precisions, best_thresholds
from mlcl.evaluation.per_label import confusion_of_labels, decisions_by_label
from mlcl.evaluation.readouts import preference
from mlcl.records.cards import read_card
from mlcl.records.files import JsonCache, atomic_file, write_text
from mlcl.records.outline import OpenStudy
from mlcl.records.record import SCORES
from mlcl.records.rescore import read_all_scores
from mlcl.records.status import CellStatus

MEASURES = (
    "precision",
    "recall",
    "f1",
    "precision_tuned",
    "recall_tuned",
    "f1_tuned",
    "average_precision",
)
"""At threshold 0.5, at those tuned on validation (of scores on test only), and of the ranking of the rows."""
LABELS_COLUMNS = (
    *("dataset", "encoder", "loss", "variant", "seed", "readout", "number", "label", "positives"),
    *MEASURES,
)
"""`number`: the label's place in the dataset. `positives`: rows of the split that have it. Without any, the measures
are empty."""
DIGITS = 6
MOST_CONFUSED = 30
"""Labels of a dataset in `confusions.json`: those with the most rows confused, of all labels if there are no more."""
CACHE = "labels_cache.json"
Scores = Mapping[str, Mapping[str, NDArray[Any]]]
"""readout -> what `read_scores` gives of it"""


@dataclass(frozen=True)
class Confusion:
    """Which labels a loss takes for which on a dataset: numbers of rows, summed over the seeds (k labels)."""

    labels: list[int]
    """The label's numbers in the dataset, in its order."""
    positives: list[int]
    """Rows that have the label: the sum of its row below."""
    instead: list[list[float]]
    """(k, k) `mlcl.evaluation.per_label.confusion_of_labels`; the diagonal holds the rows in which it is predicted."""
    others: list[float]
    """Rows in which a label that is not listed is predicted instead."""
    nothing: list[float]
    """Rows in which it is missed and no label is predicted wrongly."""
    seeds: int
    tuned: bool
    """Whether decisions are at thresholds tuned on validation; else at 0.5."""


def write_labels(study: OpenStudy, cells: Sequence[CellStatus]) -> None:
    """Writes both files, from the cells that went well; one whose scores are not there is left out."""
    outline, paths = study
    cache = JsonCache(paths.results / CACHE)
    made_of = "".join(sha256_of(Path(str(module.__file__))) for module in (metrics, per_label))
    names = {dataset: _names(paths.card(dataset)) for dataset in outline.datasets}
    confusions: dict[str, Any] = {}
    rows: dict[tuple[str, ...], dict[int, Path]] = {}
    for cell in cells:
        file = paths.cell(cell.cell.id) / SCORES
        if cell.outcome == "ok" and file.exists():
            rows.setdefault((*cell.cell.id.row, cell.cell.id.variant), {})[cell.cell.id.seed] = file

    def key(what: str, *digests: str) -> str:
        return hashlib.sha256(repr((what, outline.split, digests, made_of)).encode()).hexdigest()

    with atomic_file(paths.labels_csv) as temporary, temporary.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(LABELS_COLUMNS)
        for row, files in rows.items():
            dataset, encoder, loss, variant = row
            digests, loaded = {seed: sha256_of(file) for seed, file in files.items()}, _Loaded()
            for seed, file in files.items():
                measured = cache.get(
                    key("labels", digests[seed]), partial(_by_readout, loaded, file, outline.split)
                )
                for readout, lines in measured.items():
                    for number, line in enumerate(lines.split("\n")):
                        name = _name(names[dataset], number)
                        writer.writerow((*row, seed, readout, number, name, *line.split(",")))
            if variant == "base" and loss in outline.losses:
                confusion = cache.get(
                    key(f"confusion {outline.readout}", *digests.values()),
                    partial(_confusion, loaded, [*files.values()], outline.readout, outline.split),
                )
                if confusion is not None:
                    confusions["/".join((dataset, encoder, loss))] = confusion
    write_confusions(paths.confusions, confusions)
    cache.write()


def write_confusions(file: Path, rows: Mapping[str, Any]) -> None:
    """`rows`: `dataset/encoder/loss` -> a `Confusion` as a mapping."""
    write_text(file, json.dumps(sealed({"rows": rows}), separators=(",", ":")) + "\n")


def read_confusions(file: Path) -> dict[tuple[str, ...], Confusion]:
    """(dataset, encoder, loss) -> confusion. Raises RecordError for a file that is not what was written."""
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))["rows"]
        return {tuple(row.split("/")): Confusion(**content) for row, content in rows.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise RecordError(
            f"{file}: is not there or not what was written; aggregate the records again"
        ) from None


class _Loaded(dict[Path, Scores]):
    """Scores of the seeds of a row, each file read once."""

    def __missing__(self, file: Path) -> Scores:
        self[file] = read_all_scores(file)
        return self[file]


def _names(card: Path) -> list[str]:
    content = read_card(card)
    return [] if content is None else [str(label) for label in content["labels"]]


def _name(names: Sequence[str], number: int) -> str:
    return names[number] if number < len(names) else f"label {number}"


def _thresholds(scores: Mapping[str, NDArray[Any]], split: str) -> NDArray[Any] | None:
    """(L,) tuned on validation; None for scores on validation itself."""
    return best_thresholds(scores["val_labels"], scores["val_scores"]) if split == "test" else None


def _by_readout(loaded: _Loaded, file: Path, split: str) -> dict[str, str]:
    """readout -> a line for each label: positives and measures."""
    return {readout: "\n".join(_lines(scores, split)) for readout, scores in loaded[file].items()}


def _lines(scores: Mapping[str, NDArray[Any]], split: str) -> Iterator[str]:
    given, probabilities = scores[f"{split}_labels"], scores[f"{split}_scores"]
    labels, known = given == 1, given != UNKNOWN
    columns: list[NDArray[Any]] = [*decisions_by_label(labels, (probabilities > THRESHOLD) & known)]
    thresholds = _thresholds(scores, split)
    if thresholds is None:
        columns += [np.full(labels.shape[1], np.nan)] * 3
    else:
        columns += decisions_by_label(labels, (probabilities > thresholds) & known)
    columns.append(average_precisions(given, probabilities))
    for positives, values in zip(labels.sum(axis=0).tolist(), np.column_stack(columns).tolist(), strict=True):
        yield ",".join([str(positives), *("" if v != v else repr(round(v, DIGITS)) for v in values)])


def _confusion(loaded: _Loaded, files: Sequence[Path], readout: str, split: str) -> dict[str, Any] | None:
    """Of the readout of the study's tables, summed over the seeds; None where none of them has it.

    Rows with an unknown label are left out: what is predicted in place of what is not known in them.
    """
    total, seeds = None, 0
    for file in files:
        scores = next((loaded[file][name] for name in preference(readout) if name in loaded[file]), None)
        if scores is None:
            continue
        given, thresholds = scores[f"{split}_labels"], _thresholds(scores, split)
        predicted = scores[f"{split}_scores"] > (THRESHOLD if thresholds is None else thresholds)
        whole = (given != UNKNOWN).all(axis=1)
        matrix, seeds = confusion_of_labels(given[whole] == 1, predicted[whole]), seeds + 1
        total = matrix if total is None else total + matrix
    if total is None:
        return None
    confused = total[:, :-1] - np.diag(np.diag(total[:, :-1]))
    rows_confused = confused.sum(axis=0) + confused.sum(axis=1)
    chosen = np.sort(np.argsort(-rows_confused, kind="stable")[:MOST_CONFUSED])
    instead = total[np.ix_(chosen, chosen)]
    positives, nothing = total[chosen].sum(axis=1), total[chosen, -1]
    others = np.maximum(positives - instead.sum(axis=1) - nothing, 0)
    return asdict(
        Confusion(
            labels=chosen.tolist(),
            positives=np.rint(positives).astype(int).tolist(),
            instead=instead.round(3).tolist(),
            others=others.round(3).tolist(),
            nothing=nothing.round(3).tolist(),
            seeds=seeds,
            tuned=split == "test",
        )
    )
