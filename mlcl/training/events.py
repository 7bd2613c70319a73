"""What a training reports while it runs, and the two ways in which it ends early. No torch here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EpochEnd:
    """One line of the learning curve, at the end of an epoch; its fields are the columns of `history.csv`."""

    epoch: int
    """Counted from 1."""
    step: int
    """Optimizer steps since training began."""
    loss: float
    """Mean over the steps of the epoch."""
    learning_rate: float
    """At the beginning of the epoch."""
    seconds: float
    """Training time since training began, without validation and checkpoints."""
    examples_per_second: float
    seconds_left: float
    """Estimate of the training time that remains."""
    val_loss: float | None = None
    val_micro_f1: float | None = None


@dataclass(frozen=True)
class StepProgress:
    """How far an unfinished epoch is."""

    epoch: int
    """Counted from 1."""
    batches: int
    """Finished batches of this epoch."""
    steps_per_epoch: int
    epochs: int
    loss: float
    """Mean since the last report."""
    examples_per_second: float
    epoch_seconds_left: float
    seconds_left: float


@dataclass(frozen=True)
class Resumed:
    """Training was resumed from a checkpoint."""

    epoch: int
    """The epoch that training resumes in, counted from 1; `epochs` + 1 if it was finished."""
    batches: int
    """Finished batches of that epoch."""
    epochs: int
    """Number of epochs in all."""


@dataclass(frozen=True)
class FeatureProgress:
    """How far the features of a frozen encoder are, which are computed once and stored."""

    split: str
    rows: int
    """Of this split, finished."""
    of_rows: int
    seconds_left: float
    """For this split, at the mean rate until now; too long for texts, of which the longest come first."""


TrainingEvent = EpochEnd | StepProgress | Resumed | FeatureProgress


class Diverged(Exception):  # noqa: N818 (a result, reported as a status)
    """A loss, a gradient, a feature or a score is not finite."""


class Interrupted(Exception):  # noqa: N818 (not a defect: the cell can be resumed)
    """Training stopped before its end and can be resumed from its checkpoint."""
