"""All settings of one cell: the values that a study may change, with their ranges. No torch here.

Whatever stands here is hashed into a cell's fingerprint.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt

Fraction = Annotated[float, Field(gt=0, le=1)]
SelectionRule = Literal["last"]
Protocol = Literal["contrastive_linear", "end_to_end", "joint", "label_prior", "random", "random_encoder"]


class Settings(BaseModel):
    """Immutable; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


class TrainingSettings(Settings):
    """How an encoder is trained, whatever the loss."""

    epochs: PositiveInt = 20
    batch_size: Annotated[int, Field(ge=2)] = 64
    learning_rate: PositiveFloat = 1e-3
    weight_decay: NonNegativeFloat = 0.01
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Fraction of the steps in which the learning rate rises linearly; a cosine to 0 follows."""
    gradient_clip: PositiveFloat = 1.0
    projection_dim: PositiveInt = 64
    """Contrastive losses see Linear(h, h)-ReLU-Linear(h, projection_dim) of the feature."""
    head_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Before the linear head of end-to-end training."""
    selection: SelectionRule = "last"
    """Which weights are evaluated."""


class ComputeSettings(Settings):
    """On what a cell is computed."""

    threads: PositiveInt = 1
    """CPU threads of a cell: results depend on it, so it is never taken from `--cores`."""
    device: Literal["auto", "cpu", "cuda"] = "auto"


class LinearEvaluationSettings(Settings):
    """The grid of linear heads on frozen features (comprehensive study; see `mlcl.evaluation.linear`)."""

    learning_rates: Annotated[list[PositiveFloat], Field(min_length=1)] = [1.0, 0.1]
    weight_decays: Annotated[list[NonNegativeFloat], Field(min_length=1)] = [1.0, 0.1, 0.01, 1e-4]
    heads: PositiveInt = 3
    epochs: PositiveInt = 40
    batch_size: PositiveInt = 256


class SubsetSettings(Settings):
    """Which part of the training rows is used."""

    fraction: Fraction = 1.0
    sampling: Literal["random", "stratified"] = "random"


class DatasetPart(Settings):
    """The dataset of a cell; what it is made of stands in its fingerprint."""

    source: str
    settings: dict[str, Any]
    subset: SubsetSettings


class EncoderPart(Settings):
    """The encoder of a cell with all its settings."""

    name: str
    settings: dict[str, Any]


class LossPart(Settings):
    """The loss of a cell with all its hyperparameters."""

    name: str
    file: Path | None
    hyperparameters: dict[str, Any]


class CellSettings(Settings):
    """All that a cell's result depends on, but for code and data.

    Parts that a protocol does not use are None, so that a change there leaves the cell as it is.
    """

    seed: int
    protocol: Protocol
    dataset: DatasetPart
    encoder: EncoderPart | None = None
    loss: LossPart | None = None
    training: TrainingSettings | None = None
    linear_evaluation: LinearEvaluationSettings | None = None
    compute: ComputeSettings
    keep_embeddings: bool = False
