"""From the states of tokens to the feature of a text."""

from __future__ import annotations

from typing import Literal

import torch

from mlcl.encoders.base import TokenBatch

TokenPooling = Literal["cls", "mean", "last"]
ChunkPooling = Literal["mean", "max"]


def pool_tokens(states: torch.Tensor, present: torch.Tensor, how: TokenPooling) -> torch.Tensor:
    """States (N, T, D) of the tokens that are there (N, T) bool, at least one in every row -> float32 (N, D)."""
    match how:
        case "cls":
            return states[:, 0].float()
        case "last":
            places = torch.arange(present.shape[1], device=present.device)
            last = torch.where(present, places, 0).amax(dim=1)
            rows = torch.arange(len(states), device=states.device)
            return states[rows, last].float()
        case "mean":
            total = torch.where(present[:, :, None], states, 0).sum(dim=1, dtype=torch.float32)
            return total / present.sum(dim=1, keepdim=True)


def pool_chunks(features: torch.Tensor, batch: TokenBatch, how: ChunkPooling) -> torch.Tensor:
    """Features (N, D) of chunks -> features (`batch.texts`, D); every chunk of a text counts the same."""
    if batch.text is None:
        return features
    pooled = features.new_zeros(batch.texts, features.shape[1])
    if how == "max":
        places = batch.text[:, None].expand_as(features)
        return pooled.scatter_reduce(0, places, features, "amax", include_self=False)
    chunks = features.new_zeros(batch.texts).index_add(0, batch.text, features.new_ones(len(features)))
    return pooled.index_add(0, batch.text, features) / chunks[:, None]
