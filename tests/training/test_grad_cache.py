"""Gradient caching: gradients computed by micro-batches are those of the whole batch."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from tiny import cell
from torch import Tensor, nn

from mlcl import losses
from mlcl.data import PreparedDataset
from mlcl.encoders.base import Batch, TokenBatch
from mlcl.encoders.huggingface import pool_chunks
from mlcl.training import distributed
from mlcl.training.grad_cache import cached_backward
from mlcl.training.launch import train
from mlcl.training.methods import Classification, Contrastive, Method, MomentumQueue, OwnHeads
from mlcl.training.settings import ComputeSettings
from mlcl.training.step_timer import StepTimer

F, H, D, L, B = 6, 12, 5, 4, 14
SIZES = [4, 4, 3, 3]


class Small(nn.Module):
    """Without batch normalisation, which would see pieces."""

    feature_dim = H

    def __init__(self, dropout: float = 0.0, norm: bool = False) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(F, H), nn.Linear(H, H)
        self.dropout, self.norm = nn.Dropout(dropout), nn.BatchNorm1d(H) if norm else nn.Identity()

    def forward(self, vectors: Tensor) -> Tensor:
        return self.norm(self.second(self.dropout(torch.tanh(self.first(vectors)))))


class Chunked(nn.Module):
    """Texts in chunks of tokens."""

    feature_dim = H

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.out = nn.Embedding(20, H), nn.Linear(H, H)

    def forward(self, batch: TokenBatch) -> Tensor:
        return pool_chunks(torch.tanh(self.out(self.tokens(batch.ids).mean(1))), batch, "mean")


def method(kind: str, encoder: nn.Module) -> Method:
    projection = nn.Sequential(nn.Linear(H, H), nn.ReLU(), nn.Linear(H, D))
    generator = torch.Generator().manual_seed(3)
    match kind:
        case "contrastive":
            return Contrastive(encoder, projection, losses.create("reg", L, D, generator=generator))  # type: ignore[arg-type]
        case "queue":
            return MomentumQueue(encoder, projection, losses.create("mulsupcon", L, D), 9, 0.9)  # type: ignore[arg-type]
        case "kmcl":
            return OwnHeads(encoder, losses.create("kmcl", L, H, generator=generator))  # type: ignore[arg-type]
        case _:
            head = nn.Sequential(nn.Dropout(0.4 if kind == "dropout" else 0.0), nn.Linear(H, L))
            return Classification(encoder, head, losses.create("asl", L))  # type: ignore[arg-type]


def made(kind: str, encoder: nn.Module) -> Method:
    torch.manual_seed(0)
    return method(kind, encoder).train()


def data(seed: int = 1) -> tuple[list[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(B, F, generator=generator) for _ in range(2)], torch.rand(
        B, L, generator=generator
    ) < 0.4


def in_pieces(view: Tensor) -> list[Batch]:
    return list(view.split(SIZES))


def cached(method: Method, views: list[list[Batch]], labels: Tensor, precision: Any = "fp32") -> Tensor:
    accelerator = distributed.accelerator(ComputeSettings(device="cpu", precision=precision))
    clock = StepTimer(torch.device("cpu"))
    clock.start()
    return cached_backward(method, views[: method.views], labels, accelerator, clock).detach()


def gradients(method: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad for name, p in method.named_parameters() if p.grad is not None}


def close(first: nn.Module, second: nn.Module, atol: float = 1e-6) -> None:
    own, other = gradients(first), gradients(second)
    assert own.keys() == other.keys()
    assert own
    for name, gradient in own.items():
        assert torch.allclose(gradient, other[name], atol=atol, rtol=1e-4), name
    assert any(gradient.abs().max() > 1e-4 for name, gradient in own.items() if name.startswith("encoder"))


@pytest.mark.parametrize("kind", ["contrastive", "queue", "kmcl", "classification"])
def test_gradients_equal_those_of_the_whole_batch(kind: str) -> None:
    torch.manual_seed(5)
    encoder = Small()
    whole, parts = made(kind, deepcopy(encoder)), made(kind, deepcopy(encoder))
    for seed in range(3):  # the queue fills and wraps
        views, labels = data(seed)
        for each in (whole, parts):
            each.zero_grad()
        loss = whole([[view] for view in views[: whole.views]], labels)
        loss.backward()
        found = cached(parts, [in_pieces(view) for view in views], labels)
        assert float(found) == pytest.approx(float(loss.detach()), rel=1e-5)
        close(whole, parts)
    if isinstance(whole, MomentumQueue) and isinstance(parts, MomentumQueue):
        assert torch.allclose(whole.keys, parts.keys, atol=1e-6)


def test_dropout_is_the_same_in_both_passes() -> None:
    """Against one pass with a graph in which each piece draws its own masks in the same order."""
    torch.manual_seed(5)
    encoder = Small(dropout=0.5)
    whole, parts = made("dropout", deepcopy(encoder)), made("dropout", deepcopy(encoder))
    views, labels = data()
    torch.manual_seed(7)
    features = torch.cat([whole.encoder(piece) for piece in in_pieces(views[0])])
    loss = whole.loss(features, labels)
    loss.backward()
    after = torch.get_rng_state()
    torch.manual_seed(7)
    found = cached(parts, [in_pieces(views[0])], labels)
    assert float(found) == pytest.approx(float(loss.detach()), rel=1e-6)
    close(whole, parts)
    assert torch.equal(torch.get_rng_state(), after)


def test_running_statistics_are_updated_once_per_micro_batch() -> None:
    encoder = Small(norm=True)
    expected = deepcopy(encoder).train()
    parts = made("contrastive", deepcopy(encoder))
    views, labels = data()
    for piece in in_pieces(views[0]):
        expected(piece)
    cached(parts, [in_pieces(views[0])], labels)
    for (name, own), (_, other) in zip(parts.encoder.named_buffers(), expected.named_buffers(), strict=True):
        assert torch.allclose(own, other), name
    assert int(parts.encoder.norm.num_batches_tracked) == len(SIZES)


def test_chunks_of_texts() -> None:
    generator = torch.Generator().manual_seed(2)
    counts = torch.randint(1, 4, (B,), generator=generator)
    ids = torch.randint(0, 20, (int(counts.sum()), 7), generator=generator)
    text = torch.repeat_interleave(torch.arange(B), counts)

    def batch(start: int, stop: int) -> TokenBatch:
        own = (text >= start) & (text < stop)
        return TokenBatch(
            ids[own], torch.ones_like(ids[own], dtype=torch.bool), text[own] - start, stop - start
        )

    torch.manual_seed(5)
    encoder = Chunked()
    whole, parts = made("contrastive", deepcopy(encoder)), made("contrastive", deepcopy(encoder))
    labels = data()[1]
    loss = whole([[batch(0, B)]], labels)
    loss.backward()
    ends = torch.tensor(SIZES).cumsum(0).tolist()
    pieces: list[Batch] = [batch(end - size, end) for end, size in zip(ends, SIZES, strict=True)]
    assert float(cached(parts, [pieces], labels)) == pytest.approx(float(loss.detach()), rel=1e-5)
    close(whole, parts)


@pytest.mark.parametrize("kind", ["contrastive", "queue", "classification"])
def test_mixed_precision(kind: str) -> None:
    torch.manual_seed(5)
    encoder = Small()
    whole, parts = made(kind, deepcopy(encoder)), made(kind, deepcopy(encoder))
    views, labels = data()
    with torch.autocast("cpu", torch.bfloat16):
        loss = whole([[view] for view in views[: whole.views]], labels)
    loss.backward()
    found = cached(parts, [in_pieces(view) for view in views], labels, "mixed")
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(float(loss.detach()), rel=1e-2)
    scale = max(float(gradient.abs().max()) for gradient in gradients(whole).values())
    close(whole, parts, atol=0.03 * scale)
    assert all(gradient.dtype == torch.float32 for gradient in gradients(parts).values())


def test_a_cell_with_micro_batches_trains_like_one_without(vectors: PreparedDataset) -> None:
    """Through the whole loop; what is trained on a frozen encoder has no batch normalisation."""
    curves = []
    for size in (None, 5):
        training = {"micro_batch_size": size, "projection_dim": 8, "epochs": 3}
        outcome = train(
            cell(vectors, "jaccard", training=training, encoder={"freeze": True}), vectors, lambda _: None
        )
        assert outcome.fitted is not None
        curves.append([line.loss for line in outcome.fitted.curve])
    assert curves[0] == pytest.approx(curves[1], rel=1e-4)
    assert curves[0][-1] < curves[0][0]
