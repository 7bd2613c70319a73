"""How the pairwise losses of a study weigh pairs: the matrix W of each, on one small batch of label sets.

A weighting follows from labels and hyperparameters alone, so nothing has to be trained for it. It does need torch,
which reporting never imports: this floor writes `results/<study>/pair_weights.json` when records are collected, and
reporting draws it. Only losses whose settings or source changed are computed again, and only then torch is imported.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlcl import losses
from mlcl.digests import canonical_json, is_sealed, sealed
from mlcl.records.files import write_json
from mlcl.records.outline import LossOutline, OpenStudy
from mlcl.study.code import loss_digest
from mlcl.study.fingerprint import digest
from mlcl.training.settings import LossPart

LABEL_SETS = ("11..", "11..", "1...", "111.", ".11.", "..11", "....")
"""To the first row the others are: equal, a subset, a superset, overlapping, disjoint; the last has no labels."""
LABELS = [[int(mark == "1") for mark in row] for row in LABEL_SETS]
log = logging.getLogger(__name__)


def write_pair_weights(study: OpenStudy) -> None:
    """Brings the study's file up to date. What cannot be computed, as without torch, is left out with a warning."""
    outline, paths = study
    wanted = {name: made_of for name, loss in outline.losses.items() if (made_of := _made_of(loss))}
    stored = _read(paths.pair_weights)
    entries = {name: entry for name, entry in stored.items() if wanted.get(name) == entry["made_of"]}
    for name in [name for name in wanted if name not in entries]:
        loss = outline.losses[name]
        try:
            weights = example(loss.loss, loss.file, loss.hyperparameters)
        except (
            Exception
        ) as error:  # no torch, or a defect in a loss from a file: the results stand without it
            log.warning("%s: no weights of %s: %s: %s", outline.study, name, type(error).__name__, error)
            continue
        if weights:
            entries[name] = {"made_of": wanted[name], **weights}
    ordered = {name: entries[name] for name in wanted if name in entries}
    write_json(paths.pair_weights, sealed({"labels": LABELS, "losses": ordered}))


def example(
    name: str, file: str | None = None, hyperparameters: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """A loss's weights of the batch: who its `anchors` (rows) and `references` (columns) are, and `weights`.

    Empty for a loss from a file of its own that has no `pair_weights`."""
    import torch

    info = losses.describe(name, file=file)
    loss: Any = losses.create(name, len(LABELS[0]), 1, file=file, **(hyperparameters or {}))
    if not hasattr(loss, "pair_weights"):
        return {}
    return {
        "anchors": list(info.anchors),
        "references": list(info.references),
        "weights": loss.pair_weights(torch.tensor(LABELS)).tolist(),
    }


def _made_of(loss: LossOutline) -> str | None:
    """The digest of all that the weights follow from; None for a loss that weighs no pairs of embeddings."""
    if loss.inputs != "embeddings":
        return None
    part = LossPart.model_validate(
        {"name": loss.loss, "file": loss.file, "hyperparameters": loss.hyperparameters}
    )
    made_of = {"labels": LABELS, "settings": loss.hyperparameters, "code": loss_digest(part)}
    return digest(canonical_json(made_of))[:16]


def _read(file: Path) -> dict[str, Any]:
    """loss -> its entry; empty where there is no such file, or a broken one."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError, RecursionError):
        return {}
    return dict(content["losses"]) if is_sealed(content) else {}
