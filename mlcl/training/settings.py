"""All settings of one cell: the values that a study may set, with their ranges and defaults. No torch here.

All of them are hashed into the cell's fingerprint.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt

from mlcl.evaluation.readouts import Readout
from mlcl.training.inputs.transforms import Augmentation

Fraction = Annotated[float, Field(gt=0, le=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
SelectionRule = Literal["last", "best_val_micro_f1", "best_val_loss"]
EmaEvaluation = Literal["always", "best_val_map"]
StepsPerEpoch = PositiveInt | Literal["all_rows"] | None
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


def _unless(default: Any) -> Any:
    """A field that is dumped only where it differs from its default: the default is what the code did before there was
    such a setting, so that records made then stay current."""
    return Field(default=default, exclude_if=lambda value: value == default)


class TrainingSettings(Settings):
    """How an encoder is trained, whatever the protocol. Each protocol adds settings and sets its paper's values."""

    epochs: PositiveInt = 20
    steps_per_epoch: StepsPerEpoch = None
    """None: one pass through the training rows. Otherwise this many batches, from as many passes as needed; `all_rows`:
    as many as one pass through all training rows of the dataset has, so that a subset is trained for as many steps."""
    batch_size: Annotated[int, Field(ge=2)] = 64
    micro_batch_size: PositiveInt | None = None
    """Rows that go through the encoder at once. Gradients are cached: the loss still sees the whole batch."""
    optimizer: Literal["adam", "adamw", "sgd"] = "adamw"
    learning_rate: PositiveFloat = 1e-3
    weight_decay: NonNegativeFloat = 0.01
    schedule: Literal["constant", "cosine", "linear", "one_cycle"] = "cosine"
    warmup: Share = 0.05
    """Fraction of the steps over which the learning rate rises linearly, before the schedule begins."""
    gradient_clip: PositiveFloat | None = 1.0
    """Gradients are scaled down to at most this norm; None: never."""
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay of an exponential moving average of the weights, which is then evaluated in their place."""
    ema_warmup: bool = _unless(False)
    """The decay of step t, counted from 1, is min(ema_decay, (1 + t) / (10 + t)): the average leaves the initial
    weights within a few steps, where a fixed decay holds them for 1 / (1 - decay) steps and more."""
    ema_evaluation: EmaEvaluation = _unless("always")
    """Which weights are evaluated where there is an average: `always` the averaged ones, or those with the higher mAP
    on validation, averaged or plain (`best_val_map`; of equals the averaged ones)."""
    augmentation: Augmentation = "basic"
    """Of training images (`mlcl.training.inputs.transforms`); `basic` leaves them unchanged."""
    feature_masking: Share = 0.0
    """Probability with which each entry of a training vector is replaced by its column's mean."""
    length_bucketing: bool = False
    """Batches of texts of similar length: less padding, but less random batches."""
    selection: SelectionRule = "last"
    """Which epoch's weights are evaluated."""


class ComputeSettings(Settings):
    """The hardware a cell is computed on, and how it is used."""

    threads: PositiveInt = 1
    """CPU threads of a cell. Results depend on the number, so it is never taken from `--cores`."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    processes: PositiveInt = 1
    """Data-parallel processes, one per GPU: each takes its part of every batch, the loss sees the whole batch."""
    precision: Literal["fp32", "mixed"] = "fp32"
    """`mixed`: bfloat16 where the device supports it, otherwise float16 with loss scaling. Losses stay in float32."""
    evaluation_batch_size: PositiveInt = 512
    """Rows that go through the encoder at once in evaluation; never more than `training.micro_batch_size`."""
    compile: bool = False
    """Compile the encoder (torch.compile)."""
    channels_last: bool = True
    """Memory format of images and convolutions (torch.channels_last): faster for nearly all networks."""


class LinearEvaluationSettings(Settings):
    """The grid of linear heads on frozen features (comprehensive study; see `mlcl.evaluation.linear`)."""

    learning_rates: Annotated[list[PositiveFloat], Field(min_length=1)] = [1.0, 0.1]
    weight_decays: Annotated[list[NonNegativeFloat], Field(min_length=1)] = [1.0, 0.1, 0.01, 1e-4]
    heads: PositiveInt = 3
    epochs: PositiveInt = 40
    batch_size: PositiveInt = 256
    choose: Literal["head", "ensemble"] = _unless("head")
    """Whose F1 on validation chooses a label's setting: each head's own, or that of the heads' mean probabilities."""


class KnnEvaluationSettings(Settings):
    """Nearest neighbours on frozen features (see `mlcl.evaluation.knn`)."""

    neighbours: Annotated[list[PositiveInt], Field(min_length=1)] = [5, 10, 20, 50]
    """Candidates for the number of neighbours; chosen on the validation split."""
    temperature: PositiveFloat | None = None
    """None: all neighbours have equal weight; otherwise exp(similarity / temperature)."""


class SubsetSettings(Settings):
    """Which part of the training and validation rows is used."""

    fraction: Fraction = 1.0
    """Of the training rows."""
    val_fraction: Fraction = _unless(1.0)
    """Of the validation rows, which choose settings, thresholds and epochs."""
    sampling: Literal["random", "stratified"] = "random"


class DatasetPart(Settings):
    """The dataset of a cell; its own fingerprint covers its content."""

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
    """Everything a cell's result depends on, except code and data.

    Parts that the protocol does not use are None, so that changing them does not make the cell stale.
    """

    seed: int
    protocol: Protocol
    dataset: DatasetPart
    encoder: EncoderPart | None = None
    loss: LossPart | None = None
    training: dict[str, Any] | None = None
    """Settings of the protocol's own class (`mlcl.training.protocols`)."""
    readouts: list[Readout] = []
    """How scores are made of the encoder; none for baselines without one. `linear` and `knn` need their settings."""
    linear_evaluation: LinearEvaluationSettings | None = None
    knn_evaluation: KnnEvaluationSettings | None = None
    compute: ComputeSettings
    keep_embeddings: bool = False
    keep_model: bool = False


MODALITY_OF = {"augmentation": "image", "feature_masking": "vector", "length_bucketing": "text"}
"""Training settings that apply to one modality only."""
OFF = {"augmentation": "basic", "feature_masking": 0, "length_bucketing": False}
"""The value with which each of them does nothing."""


def for_other_modalities(training: Mapping[str, Any], modality: str) -> list[str]:
    """Training settings that do not apply to this modality."""
    return sorted({key for key, _ in _modality_specific(training) if MODALITY_OF[key] != modality})


def switched_on(training: Mapping[str, Any]) -> list[str]:
    """Modality-specific training settings that do something."""
    return sorted({key for key, value in _modality_specific(training) if value != OFF[key]})


def applicable(training: Mapping[str, Any], modality: str, frozen: bool) -> dict[str, Any]:
    """The training settings that apply to inputs of this modality, or (`frozen`) to stored features of them.

    A study may mix modalities. Settings that do not apply to a cell's modality are dropped from that cell, and so are
    those of a moving average where there is none.
    """
    dropped = {key for key in MODALITY_OF if frozen or MODALITY_OF[key] != modality}
    if training.get("ema_decay") is None:
        dropped |= {"ema_warmup", "ema_evaluation"}
    settings = {key: value for key, value in training.items() if key not in dropped}
    if settings.get("finetuning"):
        settings["finetuning"] = applicable(settings["finetuning"], modality, frozen)
    return settings


def _modality_specific(training: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Modality-specific settings of both stages, where there are two."""
    yield from ((key, value) for key, value in training.items() if key in MODALITY_OF)
    second = training.get("finetuning")
    if isinstance(second, Mapping):
        yield from _modality_specific(second)
