"""The base class of encoders, and the batches that they take."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn


class TokenBatch(NamedTuple):
    """Texts as rows of tokens; a long text may be several rows (chunks).

    ids: token ids (N, T) int64; attention_mask: (N, T) bool, False for padding, at least one True in every row;
    text: for each row the number of its text within the batch, (N,) int64, ascending; None where every row is a
    text of its own; texts: how many texts there are, N if `text` is None.
    """

    ids: torch.Tensor
    attention_mask: torch.Tensor
    text: torch.Tensor | None = None
    texts: int = 0


Batch = torch.Tensor | TokenBatch
"""Images float (B, C, H, W) in [0, 1], vectors float (B, F), or texts."""


class Encoder(nn.Module):
    """Maps a batch of its modality to features (B, `feature_dim`)."""

    feature_dim: int
