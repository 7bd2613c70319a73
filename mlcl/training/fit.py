"""Fits a method to a cell's training rows: random streams, augmentation, validation, and the stages of a training."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from mlcl.data.dataset import UNKNOWN
from mlcl.evaluation import knn
from mlcl.training.checkpoint import Checkpoint
from mlcl.training.context import Context
from mlcl.training.events import EpochEnd
from mlcl.training.inputs import transforms
from mlcl.training.inputs.batches import Augment, TrainingSet, in_order
from mlcl.training.loop import FitResult, Loop, Validation
from mlcl.training.methods import Method
from mlcl.training.seeding import Randomness, generator, seed_globally
from mlcl.training.settings import TrainingSettings

VALIDATION_NEIGHBOURS = 10
"""Neighbours of the k-NN classifier that measures methods without a head during training."""


def fit(
    context: Context,
    method: Method,
    settings: TrainingSettings,
    stage: str = "training",
    after: FitResult | None = None,
) -> FitResult:
    """Trains the method on the cell's rows.

    Random draws are those of the cell's seed, whatever the loss. `stage` names the checkpoint; `after` is the result
    of an earlier stage, whose learning curve and times are put before.
    """
    random = random_streams(context, stage)
    seed_globally(context.settings.seed, "dropout")
    file = context.checkpoints / f"{stage}.pt" if context.checkpoints else None
    validate = None if settings.selection == "last" else validation(context, settings)
    competing = settings.ema_decay is not None and settings.ema_evaluation == "best_val_map"
    val_map = validation_map(context) if competing else None
    compute = context.settings.compute
    loop = Loop(settings, compute, random, context.report, Checkpoint(file), validate, val_map)
    return _joined(after, loop.fit(method.to(context.device), _training_set(context, settings)))


def random_streams(context: Context, stage: str) -> Randomness:
    """The streams of a stage; a second stage (`finetuning`) does not repeat the draws of the first."""
    streams = [generator(context.settings.seed, purpose) for purpose in ("order", "augmentation")]
    if stage == "finetuning":
        for stream in streams:
            stream.manual_seed(stream.initial_seed() ^ 1)
    return Randomness(*streams)


def _training_set(context: Context, settings: TrainingSettings) -> TrainingSet:
    return TrainingSet(
        context.inputs("train"),
        context.labels("train"),
        context.train_rows,
        context.dataset["train"].ids,
        _augment(context, settings),
    )


def _augment(context: Context, settings: TrainingSettings) -> Augment | None:
    """The augmentation of training inputs. Stored features of a frozen encoder are not augmented."""
    if context.encoder_settings.freeze:
        return None
    if context.dataset.modality == "image" and settings.augmentation != "basic":
        return transforms.build(settings.augmentation)
    if context.dataset.modality == "vector" and settings.feature_masking > 0:
        means = context.dataset["train"].vectors[context.train_rows].mean(axis=0, dtype=np.float64)
        return transforms.mask_features(
            settings.feature_masking, torch.from_numpy(means).float().to(context.device)
        )
    return None


def validation(context: Context, settings: TrainingSettings) -> Validation:
    """What measures a method after each epoch, for the rules of selection that need it.

    `val_loss`: mean over validation rows of the loss of their batches, in order. `val_micro_f1`: of the method's own
    head at 0.5, or of a k-NN classifier on its features where it has none (contrastive losses).
    """
    inputs, rows, labels = context.inputs("val"), context.rows("val"), context.labels_of_rows("val")

    @torch.no_grad()
    def measure(method: Method) -> dict[str, float]:
        features = context.encode_rows(method.encoder, inputs, rows)
        batches = [torch.from_numpy(batch) for batch in in_order(np.arange(len(rows)), settings.batch_size)]
        losses = [method.loss(features[batch], labels[batch]) * len(batch) for batch in batches]
        return {
            "val_loss": float(torch.stack(losses).sum() / len(rows)),
            "val_micro_f1": _micro_f1(_predictions(context, method, features), labels),
        }

    return measure


def validation_map(context: Context) -> Callable[[Method], float]:
    """What measures a method's mAP on validation: by its own head, or by a k-NN classifier where it has none."""
    inputs, rows, labels = context.inputs("val"), context.rows("val"), context.labels_of_rows("val")

    @torch.no_grad()
    def measure(method: Method) -> float:
        features = context.encode_rows(method.encoder, inputs, rows)
        return _mean_average_precision(_scores(context, method, features), labels)

    return measure


def _predictions(context: Context, method: Method, features: torch.Tensor) -> torch.Tensor:
    """(N, L) bool"""
    return _scores(context, method, features) > (0.5 if method.head is None else 0)


def _scores(context: Context, method: Method, features: torch.Tensor) -> torch.Tensor:
    """(N, L) logits of the method's own head, or probabilities of the k-NN classifier"""
    if method.head is not None:
        logits: torch.Tensor = method.head(features)
        return logits
    train = context.encode(method.encoder, "train")
    return knn.probabilities(train, context.labels_of_rows("train"), features, VALIDATION_NEIGHBOURS)


def _mean_average_precision(scores: torch.Tensor, labels: torch.Tensor) -> float:
    """Over the labels that have a positive, ties counted as ranked above, of the known cells; NaN where a score is not
    finite or there is no positive. Its own few lines, so that training does not depend on the code of the metrics."""
    if not (scores.isfinite().all() and (labels == 1).any()):
        return math.nan
    averages = []
    for column, given in zip(scores.T, labels.T, strict=True):
        if (given == 1).any():
            ascending = column[given != UNKNOWN].sort().values
            positives = column[given == 1].sort().values
            above = len(ascending) - torch.searchsorted(ascending, positives)
            positives_above = len(positives) - torch.searchsorted(positives, positives)
            averages.append((positives_above / above).mean())
    return float(torch.stack(averages).mean())


def _micro_f1(predicted: torch.Tensor, labels: torch.Tensor) -> float:
    """2 * true positives / (predicted + actual positives) of the known cells; 0 where there are neither."""
    truth, predicted = labels == 1, predicted & (labels != UNKNOWN)
    hits = (predicted & truth).sum()
    return float(2 * hits / (predicted.sum() + truth.sum()).clamp(min=1))


def _joined(before: FitResult | None, fitted: FitResult) -> FitResult:
    """The result of both stages."""
    if before is None:
        return fitted
    curve = [_after(before.curve[-1], line) for line in fitted.curve] if before.curve else fitted.curve
    parts = before.step_seconds.keys() | fitted.step_seconds.keys()
    seconds = {
        part: before.step_seconds.get(part, 0.0) + fitted.step_seconds.get(part, 0.0)
        for part in sorted(parts)
    }
    return FitResult(
        fitted.method,
        [*before.curve, *curve],
        seconds,
        before.earlier_seconds + fitted.earlier_seconds,
        before.earlier_cpu_seconds + fitted.earlier_cpu_seconds,
        before.cpu_seconds + fitted.cpu_seconds,
        fitted.ema,
    )


def _after(last: EpochEnd, line: EpochEnd) -> EpochEnd:
    """A line of the second stage, counted from the beginning of the first stage, which ended with `last`."""
    seconds = last.seconds + line.seconds
    examples = last.examples_per_second * last.seconds + line.examples_per_second * line.seconds
    return replace(
        line,
        epoch=last.epoch + line.epoch,
        step=last.step + line.step,
        seconds=seconds,
        examples_per_second=examples / seconds,
    )
