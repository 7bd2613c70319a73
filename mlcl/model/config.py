"""What lies in a model's folder, and what its `config.json` says. No torch here.

model.safetensors      tensors `encoder.*`, `adapter.*` (frozen encoders), `heads.<readout>.*`
config.json            `ModelConfig`
tokenizer.json         texts: the tokenizer in the form of the tokenizers library
encoder/config.json    models of the transformers library: the library's own configuration
README.md              the model card; `mlcl export` adds it
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from data_prep.readers.text import Cleaning
from mlcl.digests import SEAL, digests_of, is_sealed, sealed
from mlcl.encoders.catalog import Modality
from mlcl.errors import MlclError
from mlcl.evaluation.readouts import Readout
from mlcl.suggest import closest

FORMAT: Final = 2
WEIGHTS, CONFIG, TOKENIZER, CARD = "model.safetensors", "config.json", "tokenizer.json", "README.md"
ENCODER = "encoder"
"""A folder in the hub's layout, without weights."""
THRESHOLD = 0.5


class ModelError(MlclError):
    """A model cannot be loaded, or does not take what it was given."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EncoderPart(_Part):
    """The encoder without its stored weights: all of them are in `model.safetensors`."""

    name: str
    settings: dict[str, Any]
    inputs: dict[str, int]
    """The fields of `mlcl.encoders.InputShape`."""


class TokenizerPart(_Part):
    """What `tokenizer.json` does not say (see `mlcl.data.Tokens`)."""

    vocab_size: int
    pad_id: int
    prefix_ids: list[int]
    suffix_ids: list[int]


class ReadoutPart(_Part):
    """One way in which scores are made of the encoder's features."""

    kind: Literal["linear", "knn"]
    """Linear heads, those that were trained with the encoder included, or nearest neighbours."""
    thresholds: list[float] | None = None
    """For each label the one with the best F1 on validation; added by the export."""
    metrics: dict[str, dict[str, float]] = {}
    """split -> metric -> value, of the record; added by the export."""


class ModelConfig(_Part):
    """All that is needed to score raw inputs as training did, and where the model comes from."""

    format: Literal[2] = FORMAT
    modality: Modality
    labels: list[str]
    """In the order of the scores."""
    encoder: EncoderPart
    adapter: bool | None = None
    """For a frozen encoder: is there a trained layer on its features? None for an encoder that was trained."""
    readouts: dict[Readout, ReadoutPart]
    readout: Readout
    """The one that is used unless another is asked for."""
    cleaning: Cleaning | None = None
    """What preparation did to the dataset's texts; None where it took them as they were, or in a way of its own."""
    tokenizer: TokenizerPart | None = None
    trained: dict[str, Any] = {}
    """Study, cell, fingerprint, loss and settings, for the reader: nothing here is needed to predict."""
    files: dict[str, str] = {}
    """Path in the folder -> SHA-256, of all files but this one and the card; `write_config` enters them."""

    @model_validator(mode="after")
    def _consistent(self) -> ModelConfig:
        if (self.modality == "text") != (self.tokenizer is not None):
            raise ValueError("tokenizer: texts need one, and nothing else does")
        for name, part in self.readouts.items():
            if part.thresholds is not None and len(part.thresholds) != len(self.labels):
                raise ValueError(
                    f"readouts.{name}.thresholds: {len(part.thresholds)} for {len(self.labels)} labels"
                )
        if self.readout not in self.readouts:
            raise ValueError(f"readout: '{self.readout}' is none of {', '.join(self.readouts)}")
        return self

    def with_readout(self, readout: str | None) -> ModelConfig:
        """The same model, scored by this readout; by its own default for None. Raises ModelError for an unknown one."""
        if readout is None:
            return self
        if readout not in self.readouts:
            raise ModelError(f"readout '{readout}': the model has no such; {closest(readout, self.readouts)}")
        return self.model_copy(update={"readout": readout})


def read_config(folder: Path) -> ModelConfig:
    """Raises ModelError naming the file where there is no model, one of another format, or a damaged `config.json`."""
    file = folder / CONFIG
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise ModelError(
            f"{folder}: is not a model's folder ({CONFIG} is missing); 'mlcl export' writes one"
        ) from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{file}: cannot be read ({error}); export the model again") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        other = content.get("format") if isinstance(content, dict) else None
        raise ModelError(
            f"{file}: has format {other}, this version of mlcl reads format {FORMAT}; export the model again, or use "
            "the version of mlcl that wrote it"
        )
    if not is_sealed(content):
        raise ModelError(f"{file}: is not what was written (its seal does not fit); export the model again")
    try:
        return ModelConfig.model_validate({key: value for key, value in content.items() if key != SEAL})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "config"
        raise ModelError(f"{file}: {place}: {first['msg']}; export the model again") from None


def write_config(folder: Path, config: ModelConfig) -> None:
    """Writes the configuration, sealed, with the digests of the other files, which are in the folder already."""
    digests = digests_of(folder)
    files = {name: digest for name, digest in digests.items() if name not in (CONFIG, CARD)}
    content = sealed(config.model_copy(update={"files": files}).model_dump(mode="json"))
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    (folder / CONFIG).write_text(text + "\n", encoding="utf-8")
