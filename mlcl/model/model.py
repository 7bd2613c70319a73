"""A trained model in use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from mlcl.encoders.base import Encoder
from mlcl.evaluation.knn import Neighbours
from mlcl.evaluation.linear import LinearHeads
from mlcl.model.config import ModelConfig, ModelError
from mlcl.model.preprocess import Preprocessor

BATCH_SIZE = 64


class Model:
    """Scores raw inputs as training scored the test split.

    Attributes:
        config: what the model's folder says of it (`mlcl.model.config.ModelConfig`).
        labels: label names, in the order of the scores.
        modality: `text`, `image` or `vector`.
        encoder: the encoder, with the weights and buffers of the model's folder.
    """

    def __init__(
        self,
        config: ModelConfig,
        encoder: Encoder,
        adapter: nn.Module | None,
        heads: LinearHeads | Neighbours,
        preprocess: Preprocessor,
        device: torch.device,
    ) -> None:
        self.config, self.labels, self.modality = config, config.labels, config.modality
        self.encoder, self._adapter, self._heads = encoder, adapter, heads
        self._preprocess, self._device = preprocess, device

    def predict(self, inputs: Sequence[Any] | np.ndarray, batch_size: int = BATCH_SIZE) -> np.ndarray:
        """Scores (N, L) float32 in [0, 1], one column for each of `labels`.

        Texts: str. Images: paths, the bytes of files, or uint8 arrays (H, W, C) as they were prepared. Vectors: an
        array (N, F). Raises ModelError naming the input that is none of these.
        """
        if isinstance(inputs, str | bytes | Path):
            raise ModelError("predict takes several inputs at once: give a list")
        scores = [np.empty((0, len(self.labels)), dtype=np.float32)]
        for start in range(0, len(inputs), _positive(batch_size)):
            batch = inputs[start : start + batch_size]
            scores.append(self.score(batch, [f"input {start + row}" for row in range(len(batch))]))
        return np.concatenate(scores)

    def predict_proba(self, inputs: Sequence[Any] | np.ndarray) -> np.ndarray:
        """`predict` by the name that scikit-learn gives to what returns probabilities."""
        return self.predict(inputs)

    @torch.no_grad()
    def score(self, inputs: Sequence[Any] | np.ndarray, places: Sequence[str]) -> np.ndarray:
        """As `predict`, for one batch; `places` are the names of its inputs in messages."""
        batch = self._preprocess(inputs, places)
        features = self.encoder(batch.take(np.arange(len(batch)), self._device)).float()
        if self._adapter is not None:
            features = self._adapter(features)
        scores: np.ndarray = self._heads.probabilities(features).float().cpu().numpy()
        return scores

    def thresholds(self, threshold: float | Literal["tuned"] = "tuned") -> np.ndarray:
        """(L,) float32: above it a label is predicted. `tuned`: the best F1 of each label on validation."""
        if threshold == "tuned":
            tuned = self.config.readouts[self.config.readout].thresholds
            if tuned is None:
                raise ModelError("the model has no tuned thresholds: it was not exported; give a number")
            return np.array(tuned, dtype=np.float32)
        return np.full(len(self.labels), threshold, dtype=np.float32)

    def decide(self, scores: np.ndarray, threshold: float | Literal["tuned"] = "tuned") -> np.ndarray:
        """Scores (N, L) -> predicted labels (N, L) bool."""
        return scores > self.thresholds(threshold)


def _positive(batch_size: int) -> int:
    if batch_size < 1:
        raise ModelError(f"batch size {batch_size}: at least 1")
    return batch_size
