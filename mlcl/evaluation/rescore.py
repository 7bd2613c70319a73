"""Metrics of a record anew, from its stored scores: a new metric never needs training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from mlcl.errors import RecordError
from mlcl.evaluation.metrics import MetricsError, evaluate_splits
from mlcl.study import records

KEYS = ("val_scores", "val_labels", "test_scores", "test_labels")


def rescore(folder: Path, metrics_source: str) -> bool:
    """Brings the metrics of the record in `folder` up to date; returns whether there was anything to do.

    `metrics_source` is the digest of the code that computes metrics (`mlcl.study.fingerprint.metrics_source`).
    Failed cells have no scores and stay as they are. Raises RecordError if the scores are not there or broken.
    """
    path = folder / "metrics.json"
    record = records.read(path)
    if record.status != "ok" or record.result.get("metrics_source") == metrics_source:
        return False
    records.write(path, record.with_metrics(metrics_of(folder), metrics_source))
    return True


def metrics_of(folder: Path) -> records.Metrics:
    """split -> metric -> value, from `scores.npz` and, for metrics by label frequency, the dataset's card."""
    file = folder / records.SCORES
    scores = read_scores(file)
    counts, examples = _training_counts(folder)
    try:
        return evaluate_splits(
            (scores["val_labels"], scores["val_scores"]),
            (scores["test_labels"], scores["test_scores"]),
            counts,
            examples,
        )
    except MetricsError as error:
        raise RecordError(f"{file}: {error}") from None


def read_scores(file: Path) -> dict[str, NDArray[Any]]:
    """Scores and labels of both splits. Raises RecordError if the file is absent, broken or of another kind."""
    try:
        with np.load(file, allow_pickle=False) as stored:
            kind = str(stored["scores_kind"])
            arrays = {key: stored[key] for key in KEYS}
    except FileNotFoundError:
        raise RecordError(
            f"{file}: is not there; remove the record beside it, and the cell is made again"
        ) from None
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise RecordError(
            f"{file}: cannot be read ({error}); remove the record, and the cell is made again"
        ) from None
    if kind != "probability":
        raise RecordError(f"{file}: scores_kind is '{kind}', and metrics are defined for 'probability'")
    return arrays


def _training_counts(folder: Path) -> tuple[list[int] | None, int | None]:
    """Label counts and rows of the training split; None without a card (`results/<study>/<dataset>/card.json`)."""
    card = folder.parents[3] / "card.json"
    try:
        train = json.loads(card.read_text(encoding="utf-8"))["splits"]["train"]
        return list(train["label_counts"]), int(train["examples"])
    except FileNotFoundError:
        return None, None
    except (ValueError, KeyError, TypeError):
        raise RecordError(f"{card}: is no card of a dataset; prepare the dataset again") from None
