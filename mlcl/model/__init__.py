"""A trained model on its own: kept by a cell, exported as a folder, loaded to score new texts, images or vectors.

from mlcl.model import load_model

model = load_model("models/goemotions")
scores = model.predict(["What a day!"])
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mlcl.model.config import ModelConfig, ModelError

if TYPE_CHECKING:
    from mlcl.model.model import Model

__all__ = ["ModelConfig", "ModelError", "load_model"]


def load_model(folder: str | Path, device: str = "auto", readout: str | None = None) -> Model:
    """The model in a folder that `mlcl export` wrote. `device`: `auto` (a GPU where there is one), `cpu`, `cuda`.

    `readout`: how scores are made of features (`head`, `linear`, `knn`); None: as the export chose. Raises ModelError
    for a readout that the model does not have, and naming the file that is missing, broken, or does not fit the others.
    """
    from mlcl.model.folder import load  # imports torch, which `mlcl export` does not need

    return load(Path(folder), device, readout)
