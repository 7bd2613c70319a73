"""What every encoder is."""

from __future__ import annotations

from torch import nn


class Encoder(nn.Module):
    """Maps a batch of its modality to features (B, `feature_dim`)."""

    feature_dim: int
