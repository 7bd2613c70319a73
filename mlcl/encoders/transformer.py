"""A transformer encoder that two CPU cores can train from scratch, written out in plain torch.

The ready-made one of the transformers library costs 4 s of import in every process.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from mlcl.encoders.base import Encoder, TokenBatch
from mlcl.encoders.catalog import InputShape, TransformerSettings


class Block(nn.Module):
    """Pre-norm self-attention and feed-forward."""

    def __init__(self, dim: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.attention_norm, self.feedforward_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.query_key_value = nn.Linear(dim, 3 * dim)
        self.attention_out = nn.Linear(dim, dim)
        self.feedforward = nn.Sequential(
            nn.Linear(dim, feedforward), nn.GELU(), nn.Dropout(dropout), nn.Linear(feedforward, dim)
        )

    def forward(self, states: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """States (B, T, D) and attention mask (B, T) -> states (B, T, D)."""
        states = states + self._attend(self.attention_norm(states), attention_mask)
        return states + self.feedforward(self.feedforward_norm(states))

    def _attend(self, states: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        batch, length, dim = states.shape
        split = self.query_key_value(states).view(batch, length, 3, self.heads, dim // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(
            query, key, value, attn_mask=attention_mask[:, None, None, :], dropout_p=dropout
        )
        return self.attention_out(attended.transpose(1, 2).reshape(batch, length, dim))


class Transformer(Encoder):
    """Token and position embeddings, blocks, mean over the tokens of the attention mask, batch normalisation.

    Without the batch normalisation the pooled features of different texts are nearly parallel at the start,
    and training with `bce` does not leave the label prior within a few epochs.
    """

    def __init__(self, vocab_size: int, settings: TransformerSettings) -> None:
        super().__init__()
        dim = self.feature_dim = settings.dim
        self.token_dropout = settings.token_dropout
        self.tokens = nn.Embedding(vocab_size, dim)
        self.positions = nn.Parameter(torch.randn(settings.max_length, dim) * 0.02)
        self.blocks = nn.ModuleList(
            Block(dim, settings.heads, settings.feedforward, settings.dropout) for _ in range(settings.layers)
        )
        self.norm = nn.BatchNorm1d(dim)

    def forward(self, batch: TokenBatch) -> torch.Tensor:
        """A TokenBatch of at most `max_length` tokens -> features (B, feature_dim)."""
        attention_mask = batch.attention_mask
        if self.training and self.token_dropout > 0:
            undropped = attention_mask & (
                torch.rand(attention_mask.shape, device=attention_mask.device) >= self.token_dropout
            )
            attention_mask = torch.where(undropped.any(dim=1, keepdim=True), undropped, attention_mask)
        states = self.tokens(batch.ids) + self.positions[: batch.ids.shape[1]]
        for block in self.blocks:
            states = block(states, attention_mask)
        weights = attention_mask.to(states.dtype)
        pooled = torch.einsum("btd,bt->bd", states, weights) / weights.sum(dim=1, keepdim=True)
        return self.norm(pooled)


def build(settings: TransformerSettings, inputs: InputShape) -> Transformer:
    return Transformer(inputs.vocab_size, settings)
