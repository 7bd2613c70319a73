"""Scores of a record as they are stored, and its metrics anew from them: a new metric never needs training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from mlcl.errors import RecordError
from mlcl.evaluation.metrics import MetricsError, evaluate_splits
from mlcl.evaluation.readouts import NO_READOUT, preference
from mlcl.evaluation.representation import evaluate_embeddings
from mlcl.records.cards import read_card
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

SPLITS = ("val", "test")


def rescore_study(study: OpenStudy) -> int:
    """Brings the metrics of all whole records of a study up to date; returns how many were not."""
    outline, paths = study
    cells = [cell.id for cell in outline.all_cells if find_record(paths.record(cell.id), cell.id).record]
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
    """readout -> split -> metric -> value, from what lies beside a record: `scores.npz`, and `embeddings.npz` if it
    was kept. Metrics of embeddings stand under the readout `none`.

    Metrics by label frequency need the dataset's card too; they are left out where it is not there.
    """
    file = folder / SCORES
    stored = read_all_scores(file)
    counts, examples = _training_counts(card)
    metrics: Metrics = {}
    try:
        for readout, scores in stored.items():
            val, test = ((scores[f"{split}_labels"], scores[f"{split}_scores"]) for split in SPLITS)
            metrics[readout] = evaluate_splits(val, test, counts, examples)
        if (embeddings := read_embeddings(folder / EMBEDDINGS)) is not None:
            labels = next(iter(stored.values()))
            splits = [(labels[f"{split}_labels"], embeddings[split]) for split in SPLITS]
            metrics[NO_READOUT] = {"test": evaluate_embeddings(*splits)}
    except MetricsError as error:
        raise RecordError(f"{file}: {error}") from None
    return metrics


def write_scores(
    file: Path,
    scores: Mapping[str, Mapping[str, NDArray[Any]]],
    labels: Mapping[str, NDArray[Any]],
    ids: Mapping[str, NDArray[Any]],
) -> None:
    """Scores (readout -> split -> (N, L) probabilities), with labels and ids of each split once."""
    stored: dict[str, Any] = {"scores_kind": np.array("probability"), "readouts": np.array(list(scores))}
    for split in SPLITS:
        stored |= {f"{split}_labels": labels[split], f"{split}_ids": ids[split]}
        stored |= {
            f"{readout}_{split}_scores": values[split].astype(np.float32)
            for readout, values in scores.items()
        }
    np.savez_compressed(file, allow_pickle=False, **stored)


def read_scores(file: Path, readout: str) -> dict[str, NDArray[Any]]:
    """`val_scores`, `test_scores`, `val_labels`, `test_labels` of a readout, which may be `own`.

    Raises RecordError if the file is absent, broken or of another kind, or has no scores of the readout.
    """
    stored = read_all_scores(file)
    for name in preference(readout):
        if name in stored:
            return stored[name]
    raise RecordError(f"{file}: has no scores of the readout '{readout}', only of {', '.join(stored)}")


def read_all_scores(file: Path) -> dict[str, dict[str, NDArray[Any]]]:
    """readout -> what `read_scores` gives of it, readouts in the order of the study. Raises RecordError as it does."""
    require_sealed(file)
    try:
        with np.load(file, allow_pickle=False) as stored:
            kind = str(stored["scores_kind"])
            labels = {f"{split}_labels": stored[f"{split}_labels"] for split in SPLITS}
            arrays = {
                str(readout): {f"{split}_scores": stored[f"{readout}_{split}_scores"] for split in SPLITS}
                | labels
                for readout in stored["readouts"]
            }
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
            return {split: stored[split] for split in SPLITS}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise RecordError(
            f"{file}: cannot be read ({error}); remove the record, and the cell is made again"
        ) from None


def _training_counts(card: Path) -> tuple[list[int] | None, int | None]:
    """Label counts and rows of the training split; None without a card."""
    if (content := read_card(card)) is None:
        return None, None
    try:
        train = content["splits"]["train"]
        return [int(train["label_counts"][label]) for label in content["labels"]], int(train["examples"])
    except (ValueError, KeyError, TypeError):
        raise RecordError(f"{card}: is no card of a dataset; prepare the dataset again") from None
