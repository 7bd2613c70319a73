"""From a trained method to scores: by its own head, and by probes on its frozen features."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mlcl.evaluation import linear
from mlcl.evaluation.linear import LinearHeads
from mlcl.evaluation.readouts import Readout
from mlcl.training import distributed
from mlcl.training.context import Context
from mlcl.training.diagnostics import of_average, of_curve, of_grid, value_is_objective
from mlcl.training.events import Diverged
from mlcl.training.loop import FitResult
from mlcl.training.seeding import generator

if TYPE_CHECKING:
    from mlcl.evaluation.knn import Neighbours

EVALUATED = ("val", "test")
MOST_ROWS = 10_000
"""Rows that the fit is measured on."""


@dataclass(frozen=True)
class Outcome:
    """What a protocol returns: probabilities and, where there is an encoder, features of each evaluated split."""

    scores: dict[str, dict[str, np.ndarray]]
    """readout -> split -> (n, L) float32 probabilities of `rows`; the readout is `none` where there is no encoder"""
    features: dict[str, np.ndarray] = field(default_factory=dict)
    """split -> (n, D) float32"""
    fitted: FitResult | None = None
    """The trained method, its learning curve and times."""
    heads: dict[Readout, LinearHeads | Neighbours] = field(default_factory=dict)
    """readout -> what computed its scores from features"""
    rows: dict[str, np.ndarray] = field(default_factory=dict)
    """split -> row numbers (n,) that the cell uses; filled in by `run.train`"""
    diagnostics: dict[str, Any] = field(default_factory=dict)
    """See `_diagnose`; empty without an encoder"""
    fit_rows: tuple[str, np.ndarray, np.ndarray] | None = None
    """The split, the labels and the scores (n, L) by the first readout of rows that the fit is measured on. Measured
    by the caller (`diagnostics.of_fit`), so that training does not depend on the code of the metrics."""
    throughput: dict[str, Any] = field(default_factory=dict)
    """See `throughput.measure`; filled in by `run.train`"""

    @property
    def examples(self) -> dict[str, int]:
        """split -> number of rows used"""
        return {split: len(rows) for split, rows in self.rows.items()}


def read_out(context: Context, fitted: FitResult) -> Outcome:
    """Scores of the trained encoder by each readout of the cell's settings. On ranks above 0 the outcome is empty.

    Probes are fitted on the features of the training rows without augmentation; their hyperparameters are chosen on
    val. Raises Diverged if a feature is not finite.
    """
    if distributed.rank() > 0:
        return Outcome({}, fitted=fitted)
    readouts = context.settings.readouts
    if not readouts:
        raise ValueError(f"the protocol {context.settings.protocol} needs a readout")
    splits = EVALUATED if readouts == ["head"] else ("train", *EVALUATED)
    features = {split: context.encode(fitted.method.encoder, split) for split in splits}
    if not all(values.isfinite().all() for values in features.values()):
        raise Diverged("the trained encoder's features are not finite")
    heads: dict[Readout, LinearHeads | Neighbours] = {}
    scores: dict[str, dict[str, np.ndarray]] = {}
    for readout in readouts:
        heads[readout] = head = _head(readout, context, fitted, features)
        scores[readout] = _to_numpy({split: head.probabilities(features[split]) for split in EVALUATED})
    evaluated = _to_numpy({split: features[split] for split in EVALUATED})
    return Outcome(
        scores,
        evaluated,
        fitted,
        heads,
        diagnostics=_diagnose(context, fitted, heads),
        fit_rows=_fit_rows(context, features, heads),
    )


def _head(
    readout: Readout, context: Context, fitted: FitResult, features: dict[str, torch.Tensor]
) -> LinearHeads | Neighbours:
    match readout:
        case "head":
            return _own_head(fitted)
        case "knn":
            return _fit_knn(context, features)
        case _:
            return _fit_linear(context, features)


def _diagnose(
    context: Context,
    fitted: FitResult,
    heads: dict[Readout, LinearHeads | Neighbours],
) -> dict[str, Any]:
    """`curve`, where averaged and plain weights compete `ema`, and with linear evaluation `grid`; see
    `mlcl.training.diagnostics`."""
    tells = value_is_objective(fitted.method)
    result: dict[str, Any] = {"curve": of_curve(fitted.curve, context.settings.training, tells)}
    if average := of_average(fitted.ema):
        result["ema"] = average
    linear_heads, settings = heads.get("linear"), context.settings.linear_evaluation
    if isinstance(linear_heads, LinearHeads) and settings is not None:
        result["grid"] = of_grid(linear_heads, linear.Grid(**settings.model_dump()))
    return result


def _fit_rows(
    context: Context, features: dict[str, torch.Tensor], heads: dict[Readout, LinearHeads | Neighbours]
) -> tuple[str, np.ndarray, np.ndarray]:
    """Training rows, or validation rows where training rows were not encoded or would find themselves among their
    neighbours."""
    readout, head = next(iter(heads.items()))
    split = "train" if "train" in features and readout != "knn" else "val"
    labels = context.labels_of_rows(split)[:MOST_ROWS].cpu().numpy()
    scores = head.probabilities(features[split][:MOST_ROWS]).cpu().numpy()
    return split, labels, scores


def _own_head(fitted: FitResult) -> LinearHeads:
    """Scores are the sigmoid of the method's own linear head."""
    head = fitted.method.head
    assert head is not None
    weights, biases = head.weight.detach().T[None], head.bias.detach()[None]
    return LinearHeads(weights, biases, torch.zeros_like(biases, dtype=torch.long))


def _fit_linear(context: Context, features: dict[str, torch.Tensor]) -> LinearHeads:
    settings = context.settings.linear_evaluation
    if settings is None:
        raise ValueError("the readout linear needs settings of linear evaluation")
    grid = linear.Grid(**settings.model_dump())
    streams = generator(context.settings.seed, "linear_evaluation")
    return linear.fit(*_labelled(context, features), grid, streams)


def _fit_knn(context: Context, features: dict[str, torch.Tensor]) -> Neighbours:
    from mlcl.evaluation import knn

    settings = context.settings.knn_evaluation
    if settings is None:
        raise ValueError("the readout knn needs settings of kNN evaluation")
    return knn.fit(*_labelled(context, features), settings.neighbours, settings.temperature)


def _labelled(
    context: Context, features: dict[str, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features and labels of the training rows, then of the validation rows."""
    train_labels, val_labels = (context.labels_of_rows(split) for split in ("train", "val"))
    return features["train"], train_labels, features["val"], val_labels


def _to_numpy(values: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {split: tensor.cpu().numpy() for split, tensor in values.items()}
