"""The momentum encoder and its queue against a plain loop, and the protocol around them."""

from __future__ import annotations

import json
from collections import deque
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import cell, only_scores, run
from torch import Tensor, nn

from mlcl import losses
from mlcl.data import PreparedDataset
from mlcl.encoders.mlp import Mlp
from mlcl.training import fit
from mlcl.training.context import Context
from mlcl.training.inputs import batches
from mlcl.training.methods import MomentumQueue

GOLDEN = Path(__file__).parents[1] / "golden"
L, F, H, D = 4, 6, 8, 5
MOMENTUM, RATE, TEMPERATURE = 0.7, 0.1, 0.1


def parts(seed: int = 0) -> tuple[Mlp, nn.Sequential]:
    torch.manual_seed(seed)
    return Mlp(F, [H], 0.0), nn.Sequential(nn.Linear(H, H), nn.ReLU(), nn.Linear(H, D))


def batch(size: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Two views and the labels."""
    views = torch.randn(2, size, F, generator=generator)
    return views[0], views[1], torch.rand(size, L, generator=generator) < 0.4


def plain_loss(name: str, queries: Tensor, labels: Tensor, keys: Tensor, key_labels: Tensor) -> Tensor:
    """papers.md A: anchors, labels and positives one by one."""
    log_p = torch.log_softmax(queries @ keys.T / TEMPERATURE, dim=1)
    total, pairs = queries.new_zeros(()), 0
    for row in range(len(labels)):
        if name == "mulsupcon":
            for label in labels[row].nonzero().flatten().tolist():
                pairs += 1
                positives = key_labels[:, label]
                if positives.any():
                    total = total - log_p[row][positives].mean()
            continue
        if name == "supcon_all":
            positives = (key_labels == labels[row]).all(dim=1)
        else:
            positives = (key_labels & labels[row]).any(dim=1)
        if positives.any():
            total = total - log_p[row][positives].mean()
    return total / (pairs if name == "mulsupcon" else len(labels))


class Plain:
    """The same training, written out: copies instead of buffers, a list instead of a ring."""

    def __init__(self, name: str, queue_size: int) -> None:
        self.name = name
        self.encoder, self.projection = parts()
        self.key_encoder, self.key_projection = deepcopy(self.encoder), deepcopy(self.projection)
        self.queue: deque[tuple[Tensor, Tensor]] = deque(maxlen=queue_size)

    def step(self, first: Tensor, second: Tensor, labels: Tensor) -> float:
        leaders = [*self.encoder.parameters(), *self.projection.parameters()]
        followers = [*self.key_encoder.parameters(), *self.key_projection.parameters()]
        queries = nn.functional.normalize(self.projection(self.encoder(first)), dim=1)
        with torch.no_grad():
            for own, other in zip(followers, leaders, strict=True):
                own.copy_(MOMENTUM * own + (1 - MOMENTUM) * other)
            keys = nn.functional.normalize(self.key_projection(self.key_encoder(second)), dim=1)
        older = list(self.queue)
        references = torch.cat([keys, *[key[None] for key, _ in older]])
        reference_labels = torch.cat([labels, *[row[None] for _, row in older]])
        loss = plain_loss(self.name, queries, labels, references, reference_labels)
        gradients = torch.autograd.grad(loss, leaders)
        with torch.no_grad():
            for parameter, gradient in zip(leaders, gradients, strict=True):
                parameter -= RATE * gradient
        self.queue.extend(zip(keys, labels, strict=True))
        return float(loss.detach())


def in_age(method: MomentumQueue) -> tuple[Tensor, Tensor]:
    """Keys and labels of the queue, the oldest first."""
    if method.filled < len(method.keys):
        return method.keys[: method.filled], method.key_labels[: method.filled]
    return method.keys.roll(-method.next, 0), method.key_labels.roll(-method.next, 0)


@pytest.mark.parametrize("name", ["mulsupcon", "supcon_all", "supcon_any"])
@pytest.mark.parametrize(
    ("queue_size", "sizes"),
    [(10, [4] * 7), (8, [4] * 5), (3, [5, 5, 5]), (5, [5, 5]), (7, [4, 9, 2, 7, 1, 4])],
    ids=["wraps within a batch", "wraps between batches", "batch larger", "batch as large", "uneven"],
)
def test_momentum_queue_equals_a_plain_loop(name: str, queue_size: int, sizes: list[int]) -> None:
    plain = Plain(name, queue_size)
    method = MomentumQueue(*parts(), losses.create(name, L, D, temperature=TEMPERATURE), queue_size, MOMENTUM)
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=RATE)
    method.train()
    generator = torch.Generator().manual_seed(5)
    for size in sizes:
        first, second, labels = batch(max(size, 2), generator)
        expected = plain.step(first, second, labels)
        loss = method([[first], [second]], labels)
        optimizer.zero_grad()
        loss.backward()
        assert all(
            p.grad is None for p in [*method.key_encoder.parameters(), *method.key_projection.parameters()]
        )
        optimizer.step()
        assert float(loss.detach()) == pytest.approx(expected, rel=1e-4)
        keys, key_labels = in_age(method)
        assert len(keys) == len(plain.queue)
        assert torch.allclose(keys, torch.stack([key for key, _ in plain.queue]), atol=1e-5)
        assert torch.equal(key_labels, torch.stack([row for _, row in plain.queue]))
    for ours, theirs in ((method.key_encoder, plain.key_encoder), (method.encoder, plain.encoder)):
        for own, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert torch.allclose(own, other, atol=1e-5)
    assert any(
        not torch.equal(own, other)
        for own, other in zip(method.encoder.parameters(), method.key_encoder.parameters(), strict=True)
    )


def test_the_key_encoder_begins_each_pass_with_the_query_s_buffers() -> None:
    method = MomentumQueue(*parts(), losses.create("mulsupcon", L, D), 6, MOMENTUM)
    before: list[list[Tensor]] = []
    method.key_encoder.register_forward_pre_hook(
        lambda module, _: before.append([buffer.clone() for buffer in module.buffers()])
    )
    for _ in range(3):
        first, second, labels = batch(4, torch.Generator().manual_seed(len(before)))
        method([[first], [second]], labels)
        for own, other in zip(before[-1], method.encoder.buffers(), strict=True):
            assert torch.equal(own, other)
    assert len(before) == 3


def test_no_gradient_reaches_keys_or_queue() -> None:
    method = MomentumQueue(*parts(), losses.create("mulsupcon", L, D), 6, MOMENTUM)
    for seed in range(2):
        first, second, labels = batch(4, torch.Generator().manual_seed(seed))
        second.requires_grad_()
        method([[first], [second]], labels).backward()
        assert second.grad is None
    assert not method.keys.requires_grad
    assert all(p.grad is not None for p in method.projection.parameters())


def test_micro_batches_of_the_second_view_give_the_same_references() -> None:
    """As with cached gradients; without batch normalisation, which sees pieces."""
    torch.manual_seed(0)
    encoder, projection = nn.Linear(F, H), nn.Linear(H, D)
    first, second, labels = batch(6, torch.Generator().manual_seed(1))
    values = []
    for pieces in ([second], [second[:2], second[2:]]):
        method = MomentumQueue(
            deepcopy(encoder), deepcopy(projection), losses.create("mulsupcon", L, D), 4, MOMENTUM
        )  # type: ignore[arg-type]
        values.append(
            float(method.loss(method.encoder(first), labels, method.references(labels, [pieces])).detach())
        )
    assert values[0] == pytest.approx(values[1], rel=1e-6)


def test_frozen_parameters_are_shared_with_the_key_encoder() -> None:
    encoder, projection = parts()
    kept = next(encoder.parameters())
    kept.requires_grad_(False)
    method = MomentumQueue(encoder, projection, losses.create("mulsupcon", L, D), 4, MOMENTUM)
    assert next(method.key_encoder.parameters()) is kept
    follower = list(method.key_encoder.parameters())[-1]
    assert follower is not list(encoder.parameters())[-1]
    assert not follower.requires_grad
    assert list(encoder.parameters())[-1].requires_grad


def test_the_state_dict_is_complete() -> None:
    def made() -> MomentumQueue:
        return MomentumQueue(*parts(), losses.create("mulsupcon", L, D), 6, MOMENTUM).train()

    first, second = made(), made()
    generator = torch.Generator().manual_seed(2)
    first([[view] for view in batch(4, generator)[:2]], batch(4, generator)[2])
    second.load_state_dict(first.state_dict())
    one, other, labels = batch(4, generator)
    values = [float(method([[one], [other]], labels).detach()) for method in (first, second)]
    assert values[0] == values[1]
    assert (first.filled, first.next) == (second.filled, second.next) == (6, 2)


OFFICIAL = {
    "msrepo_MulSupCon": "mulsupcon",
    "msrepo_MulSupCon_w": "mulsupcon",
    "msrepo_all": "supcon_all",
    "msrepo_any": "supcon_any",
}
CASES = [
    pytest.param(path, id=path.stem)
    for path in sorted(GOLDEN.glob("msrepo_*.json"))
    if not path.stem.endswith("_queueonly")
]


@pytest.mark.parametrize("path", CASES)
def test_a_step_equals_the_official_code(path: Path) -> None:
    """The golden references are the batch's keys, then the queue; NaN there: rows without labels."""
    golden: dict[str, Any] = json.loads(path.read_text())
    family = path.stem.split("__")[0]
    queries, labels = torch.tensor(golden["features"]).double(), torch.tensor(golden["labels"]).bool()
    references = torch.tensor(golden["ref_features"]).double()
    reference_labels = torch.tensor(golden["ref_labels"]).bool()
    size, width = queries.shape
    assert torch.equal(reference_labels[:size], labels)
    identity = nn.Linear(width, width, bias=False).double()
    nn.init.eye_(identity.weight)
    more = {"per_anchor": True} if family.endswith("_w") else {}
    loss = losses.create(OFFICIAL[family], labels.shape[1], width, temperature=golden["temperature"], **more)
    method = MomentumQueue(nn.Identity(), identity, loss, len(references) - size, 0.999).double()  # type: ignore[arg-type]
    method.enqueue(nn.functional.normalize(references[size:], dim=1), reference_labels[size:])
    queries.requires_grad_()
    value = method.loss(queries, labels, method.references(labels, [[references[:size]]]))
    value.backward()
    assert queries.grad is not None
    assert queries.grad.isfinite().all()
    official = float(golden["value"])
    if np.isfinite(official):  # keys pass through float32
        assert float(value.detach()) == pytest.approx(official, rel=1e-5)
        expected = torch.tensor(golden["grad_features"]).double()
        assert torch.allclose(queries.grad, expected, atol=1e-5 * float(expected.abs().max()))


def test_queue_alone_as_references_equals_the_official_code() -> None:
    """What the losses themselves make of references without the batch's own keys (tests/losses has all of them)."""
    golden = json.loads((GOLDEN / "msrepo_MulSupCon__random_t010_queueonly.json").read_text())
    labels = torch.tensor(golden["labels"])
    loss = losses.create("mulsupcon", labels.shape[1], temperature=golden["temperature"])
    references = torch.tensor(golden["ref_features"]).double(), torch.tensor(golden["ref_labels"])
    value = loss(torch.tensor(golden["features"]).double(), labels, references=references)
    assert float(value) == pytest.approx(float(golden["value"]), rel=1e-6)


@pytest.mark.parametrize("name", ["mulsupcon", "reg", "reg_ablated", "abalone", "simdissim", "jaccard"])
def test_references_replace_the_batch_also_with_prototypes(name: str) -> None:
    encoder, projection = parts()
    loss = losses.create(name, L, D, generator=torch.Generator().manual_seed(1))
    method = MomentumQueue(encoder, projection, loss, 6, MOMENTUM).eval()
    generator = torch.Generator().manual_seed(3)
    seen: list[tuple[Tensor, Tensor]] = []
    for _ in range(3):
        first, second, labels = batch(4, generator)
        keys = nn.functional.normalize(method.key_projection(method.key_encoder(second)), dim=1).detach()
        queue = [(keys, labels), *seen[::-1]]
        references = torch.cat([k for k, _ in queue])[:10], torch.cat([r for _, r in queue])[:10]
        if len(seen) == 2:  # the queue of 6 holds the last 6 of 8
            references = (
                torch.cat([keys, seen[1][0], seen[0][0][2:]]),
                torch.cat([labels, seen[1][1], seen[0][1][2:]]),
            )
        expected = loss(projection(encoder(first)), labels, references=references)
        value = method([[first], [second]], labels)
        assert float(value.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
        seen.append((keys, labels))


SMALL = {"queue_size": 24, "projection_dim": 8, "epochs": 3}


@pytest.mark.parametrize("modality", ["images", "texts", "vectors"])
def test_each_modality_has_two_views(
    modality: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By augmentation, token dropout, masked features; the protocol's defaults."""
    dataset: PreparedDataset = request.getfixturevalue(modality)
    differ: list[bool] = []
    original = MomentumQueue.forward

    def spied(self: MomentumQueue, views: Any, labels: Tensor, *mark: Any) -> Tensor:
        state = torch.get_rng_state()
        with torch.no_grad():
            first, second = (deepcopy(self.encoder)(view[0]) for view in views)
        torch.set_rng_state(state)
        differ.append(not torch.allclose(first, second))
        return original(self, views, labels, *mark)

    monkeypatch.setattr(MomentumQueue, "forward", spied)
    outcome = run(cell(dataset, "mulsupcon", "momentum_queue", training=SMALL), dataset)
    assert len(differ) == 9  # three epochs of three batches
    assert all(differ)
    assert outcome.fitted is not None
    method = outcome.fitted.method
    assert isinstance(method, MomentumQueue)
    assert (method.filled, method.next) == (24, 0)  # 9 batches of 16
    queued = {tuple(row) for row in method.key_labels.int().tolist()}
    assert queued <= {tuple(row) for row in dataset["train"].dense_labels().tolist()}
    for scores in only_scores(outcome).values():
        assert ((scores >= 0) & (scores <= 1)).all()


def test_the_query_encoder_is_evaluated(vectors: PreparedDataset) -> None:
    outcome = run(cell(vectors, "mulsupcon", "momentum_queue", training=SMALL), vectors)
    assert outcome.fitted is not None
    method = outcome.fitted.method.eval()
    test = torch.from_numpy(np.array(vectors["test"].vectors))
    with torch.no_grad():
        assert np.allclose(outcome.features["test"], method.encoder(test).numpy(), atol=1e-6)
        assert not np.allclose(outcome.features["test"], method.key_encoder(test).numpy(), atol=1e-4)


def test_finetuning_starts_from_the_contrastive_weights(
    vectors: PreparedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages: list[tuple[str, dict[str, Tensor]]] = []
    orders: list[list[int]] = []
    original, gather = fit.fit, batches.Vectors.gather

    def spied(self: Context, method: Any, settings: Any, stage: str = "training", after: Any = None) -> Any:
        stages.append((stage, deepcopy(method.encoder.state_dict())))
        orders.append([])
        fitted = original(self, method, settings, stage, after)
        stages.append((f"after {stage}", deepcopy(fitted.method.encoder.state_dict())))
        return fitted

    def gathered(self: batches.Vectors, rows: np.ndarray) -> batches.Tensors:
        if orders:
            orders[-1].extend(rows.tolist())
        return gather(self, rows)

    monkeypatch.setattr(fit, "fit", spied)
    monkeypatch.setattr(batches.Vectors, "gather", gathered)
    tuning = {
        "epochs": 2,
        "steps_per_epoch": None,
        "batch_size": 16,
        "learning_rate": 0.01,
        "selection": "last",
    }
    settings = cell(
        vectors,
        "mulsupcon",
        "momentum_queue",
        training=SMALL | {"finetuning": tuning},
    )
    outcome = run(settings, vectors)
    assert [stage for stage, _ in stages] == ["contrast", "after contrast", "finetuning", "after finetuning"]
    assert all(torch.equal(stages[1][1][key], value) for key, value in stages[2][1].items())
    assert any(not torch.equal(stages[2][1][key], value) for key, value in stages[3][1].items())
    assert orders[0][:48] != orders[1][:48]  # another order, not the same one again
    assert outcome.fitted is not None
    assert [line.epoch for line in outcome.fitted.curve] == [1, 2, 3, 4, 5]
    assert [line.step for line in outcome.fitted.curve] == [3, 6, 9, 12, 15]
    head = outcome.fitted.method.head
    assert head is not None
    logits = torch.from_numpy(outcome.features["test"]) @ head.weight.T + head.bias
    assert np.allclose(only_scores(outcome)["test"], logits.sigmoid().detach().numpy(), atol=1e-6)


def test_bce_is_what_finetuning_minimises(vectors: PreparedDataset) -> None:
    tuning = {
        "epochs": 20,
        "steps_per_epoch": None,
        "batch_size": 16,
        "learning_rate": 0.02,
        "selection": "last",
    }
    settings = cell(
        vectors,
        "mulsupcon",
        "momentum_queue",
        training=SMALL | {"finetuning": tuning},
    )
    outcome = run(settings, vectors)
    curve = outcome.fitted.curve  # type: ignore[union-attr]
    assert curve[-1].loss < 0.6 * curve[3].loss
    truth = torch.from_numpy(vectors["test"].dense_labels()).float()
    scores = torch.from_numpy(only_scores(outcome)["test"])
    prior = torch.from_numpy(vectors["train"].dense_labels()).float().mean(0).expand_as(truth)
    bce = nn.functional.binary_cross_entropy
    assert bce(scores, truth) < 0.7 * bce(prior, truth)
