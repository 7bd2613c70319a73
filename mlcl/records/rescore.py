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
from mlcl.evaluation.representation import evaluate_embeddings
from mlcl.records.outline import OpenStudy
from mlcl.records.record import (
    EMBEDDINGS,
    SCORES,
    Metrics,
    find_record,
    read_record,
    require_sealed,
    write_record,
)

KEYS = ("val_scores", "val_labels", "test_scores", "test_labels")


def rescore_study(study: OpenStudy) -> int:
    """Brings the metrics of all whole records of a study up to date; returns how many were not."""
    outline, paths = study
    cells = [cell.id for cell in outline.cells if find_record(paths.record(cell.id), cell.id).record]
    return sum(rescore(paths.cell(cell), outline.metrics_source) for cell in cells)


def rescore(folder: Path, metrics_source: str) -> bool:
    """Brings the metrics of the record in `folder` up to date; returns whether there was anything to do.

    `metrics_source` is the digest of the code that computes metrics (`mlcl.study.fingerprint.metrics_source`).
    Failed cells have no scores and stay as they are. Raises RecordError if the scores are not there or broken.
    """
    path = folder / "metrics.json"
    record = read_record(path)
    if record.status != "ok" or record.result.get("metrics_source") == metrics_source:
        return False
    write_record(
        path, record.with_metrics(metrics_of(folder, folder.parents[3] / "card.json"), metrics_source)
    )
    return True


def metrics_of(folder: Path, card: Path) -> Metrics:
    """split -> metric -> value, from what lies beside a record: `scores.npz`, and `embeddings.npz` if it is there.

    Metrics by label frequency need the dataset's card too; they are left out where it is not there.
    """
    file = folder / SCORES
    scores = read_scores(file)
    counts, examples = _training_counts(card)
    labels = {split: scores[f"{split}_labels"] for split in ("val", "test")}
    try:
        metrics = evaluate_splits(
            (labels["val"], scores["val_scores"]), (labels["test"], scores["test_scores"]), counts, examples
        )
        if (embeddings := read_embeddings(folder / EMBEDDINGS)) is not None:
            splits = [(labels[split], embeddings[split]) for split in ("val", "test")]
            metrics["test"] |= evaluate_embeddings(*splits)
    except MetricsError as error:
        raise RecordError(f"{file}: {error}") from None
    return metrics


def read_scores(file: Path) -> dict[str, NDArray[Any]]:
    """Scores and labels of both splits. Raises RecordError if the file is absent, broken or of another kind."""
    require_sealed(file)
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


def read_embeddings(file: Path) -> dict[str, NDArray[Any]] | None:
    """Embeddings (N, D) of both splits; None if there is no file. Raises RecordError if it is broken."""
    require_sealed(file)
    try:
        with np.load(file, allow_pickle=False) as stored:
            return {split: stored[split] for split in ("val", "test")}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise RecordError(
            f"{file}: cannot be read ({error}); remove the record, and the cell is made again"
        ) from None


def _training_counts(card: Path) -> tuple[list[int] | None, int | None]:
    """Label counts and rows of the training split; None without a card."""
    try:
        content = json.loads(card.read_text(encoding="utf-8"))
        train = content["splits"]["train"]
        return [int(train["label_counts"][label]) for label in content["labels"]], int(train["examples"])
    except FileNotFoundError:
        return None, None
    except (ValueError, KeyError, TypeError):
        raise RecordError(f"{card}: is no card of a dataset; prepare the dataset again") from None
