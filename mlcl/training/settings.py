"""All settings of one cell: the values that a study may change, with their ranges. No torch here.

Whatever stands here is hashed into a cell's fingerprint.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt

from mlcl.training.augmentation import Augmentation

Fraction = Annotated[float, Field(gt=0, le=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
SelectionRule = Literal["last", "best_val_micro_f1", "best_val_loss"]
Protocol = Literal[
    "contrastive_linear",
    "end_to_end",
    "joint",
    "kmcl",
    "label_prior",
    "momentum_queue",
    "random",
    "random_encoder",
]


class Settings(BaseModel):
    """Immutable; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


class TrainingSettings(Settings):
    """How an encoder is trained, whatever the protocol; each protocol adds to it and sets its paper's values."""

    epochs: PositiveInt = 20
    steps_per_epoch: PositiveInt | None = None
    """None: once through the training rows. Otherwise so many batches, from one pass after the other."""
    batch_size: Annotated[int, Field(ge=2)] = 64
    micro_batch_size: PositiveInt | None = None
    """Rows that go through the encoder at once. Gradients are cached, so that the loss still sees the whole batch."""
    optimizer: Literal["adam", "adamw", "sgd"] = "adamw"
    learning_rate: PositiveFloat = 1e-3
    weight_decay: NonNegativeFloat = 0.01
    schedule: Literal["constant", "cosine", "linear", "one_cycle"] = "cosine"
    warmup: Share = 0.05
    """Fraction of the steps in which the learning rate rises; the schedule follows."""
    gradient_clip: PositiveFloat | None = 1.0
    """Largest norm of the gradient."""
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Evaluate a moving average of the weights instead of the weights."""
    augmentation: Augmentation = "basic"
    """Of training images (`mlcl.training.augmentation`); `basic` leaves them as they are."""
    feature_masking: Share = 0.0
    """Probability with which each entry of a training vector is set to its column's mean."""
    length_bucketing: bool = False
    """Batches of texts of about the same length: less padding, less random batches."""
    selection: SelectionRule = "last"
    """Which epoch's weights are evaluated."""


class ComputeSettings(Settings):
    """On what a cell is computed."""

    threads: PositiveInt = 1
    """CPU threads of a cell: results depend on it, so it is never taken from `--cores`."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    processes: PositiveInt = 1
    """One for each GPU; each takes its part of every batch, the loss sees the whole of it."""
    precision: Literal["fp32", "mixed"] = "fp32"
    """`mixed`: bfloat16 where the device has it, float16 with a scaled loss where not. Losses stay in float32."""
    evaluation_batch_size: PositiveInt = 512
    """Rows that go through a trained or frozen encoder at once; never more than `training.micro_batch_size`."""
    compile: bool = False
    """Compile the encoder (torch.compile)."""
    channels_last: bool = True
    """Memory format of images and convolutions: the faster one for nearly all networks."""


class LinearEvaluationSettings(Settings):
    """The grid of linear heads on frozen features (comprehensive study; see `mlcl.evaluation.linear`)."""

    learning_rates: Annotated[list[PositiveFloat], Field(min_length=1)] = [1.0, 0.1]
    weight_decays: Annotated[list[NonNegativeFloat], Field(min_length=1)] = [1.0, 0.1, 0.01, 1e-4]
    heads: PositiveInt = 3
    epochs: PositiveInt = 40
    batch_size: PositiveInt = 256


class KnnEvaluationSettings(Settings):
    """Nearest neighbours of frozen features in place of linear heads (see `mlcl.evaluation.knn`)."""

    neighbours: Annotated[list[PositiveInt], Field(min_length=1)] = [5, 10, 20, 50]
    """The number is chosen on validation."""
    temperature: PositiveFloat | None = None
    """None: all neighbours count alike; otherwise by exp(similarity / temperature)."""


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
    training: dict[str, Any] | None = None
    """Settings of the protocol's own class (`mlcl.training.protocols`)."""
    linear_evaluation: LinearEvaluationSettings | None = None
    knn_evaluation: KnnEvaluationSettings | None = None
    compute: ComputeSettings
    keep_embeddings: bool = False
    keep_model: bool = False
