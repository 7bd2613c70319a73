"""What every loss promises: finite values and gradients on any batch, in any precision, and helpful errors.

Runs on all built-in losses, on the template of docs/add_a_loss.md exactly as it stands there, and on the file
named by the environment variable MLCL_LOSS_FILE, if any.
"""

import os
import pickle
import re
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import (
    LABELS,
    NUM_LABELS,
    ROOT,
    WIDTH,
    build,
    gradients,
    inputs_for,
    random_labels,
    takes_references,
)
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mlcl import losses

EXTERNAL = os.environ.get("MLCL_LOSS_FILE")
TEMPLATE = re.search(r"```python\n(.*?)```", (ROOT / "docs/add_a_loss.md").read_text(), re.DOTALL)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    assert TEMPLATE is not None
    file = tmp_path_factory.mktemp("losses") / "dice.py"
    file.write_text(TEMPLATE.group(1))
    return file


@pytest.fixture(params=[*losses.names(), "template", *(["external"] if EXTERNAL else [])])
def subject(request: pytest.FixtureRequest) -> tuple[str, Path | None]:
    """Name and file of the loss under test."""
    if request.param == "template":
        return "dice", request.getfixturevalue("template")
    if request.param == "external":
        return Path(str(EXTERNAL)).stem, Path(str(EXTERNAL))
    return request.param, None


Subject = tuple[str, Path | None]


def run(
    subject: Subject, labels: Tensor, change: Callable[[Tensor], Tensor] = lambda x: x, **settings: Any
) -> Tensor:
    """Value of the loss on changed inputs, after asserting that it and all its gradients are finite."""
    name, file = subject
    loss = build(name, file, **settings)
    inputs = inputs_for(name, len(labels), file, torch.float32)
    inputs = {key: change(value.detach()).requires_grad_() for key, value in inputs.items()}
    value = loss(*inputs.values(), labels)
    assert value.ndim == 0
    assert torch.isfinite(value), value
    for key, gradient in gradients(value, loss, inputs).items():
        assert torch.isfinite(gradient).all(), f"gradient of {key}"
    return value.detach()


def test_the_docs_template_has_fewer_than_ten_lines() -> None:
    assert TEMPLATE is not None
    assert 5 < len([line for line in TEMPLATE.group(1).splitlines() if line.strip()]) < 10


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_finite_on_every_batch(subject: Subject, labels: Tensor) -> None:
    run(subject, labels)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(torch.zeros_like, id="all zero"),
        pytest.param(lambda x: torch.cat([torch.zeros_like(x[:2]), x[2:]]), id="two zero rows"),
        pytest.param(torch.ones_like, id="all equal"),
        pytest.param(lambda x: x[:1].expand_as(x), id="duplicates"),
        pytest.param(lambda x: torch.cat([x[:1], -x[:1], x[2:]]), id="opposites"),
        pytest.param(lambda x: 200 * x.sign(), id="plus and minus 200"),
        pytest.param(lambda x: 1e-12 * x, id="tiny"),
        pytest.param(lambda x: 1e30 * x, id="huge"),
    ],
)
def test_finite_on_degenerate_inputs(subject: Subject, change: Callable[[Tensor], Tensor]) -> None:
    run(subject, LABELS["a row without labels"], change)
    run(subject, LABELS["all labels everywhere"], change)


@pytest.mark.parametrize("temperature", [0.005, 100.0])
def test_finite_at_extreme_temperatures(subject: Subject, temperature: float) -> None:
    name, file = subject
    if "temperature" not in losses.describe(name, file).hyperparameters:
        pytest.skip("has no temperature")
    for labels in LABELS.values():
        run(subject, labels, temperature=temperature)
        run(subject, labels, lambda x: x[:1].expand_as(x), temperature=temperature)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_finite_and_close_in_half_precision(subject: Subject, labels: Tensor, dtype: torch.dtype) -> None:
    """Inputs come in half precision and under autocast, as from an encoder; the loss computes in float32."""
    name, file = subject
    loss = build(name, file)
    exact = inputs_for(name, len(labels), file, torch.float32)
    half = {key: value.detach().to(dtype).requires_grad_() for key, value in exact.items()}
    with torch.autocast("cpu", dtype=dtype):
        value = loss(*half.values(), labels)
    assert value.dtype == torch.float32
    assert torch.isfinite(value)
    for key, gradient in gradients(value, loss, half).items():
        assert torch.isfinite(gradient).all(), key
    rounded = {key: value.detach().float().requires_grad_() for key, value in half.items()}
    torch.testing.assert_close(value, loss(*rounded.values(), labels))


def test_an_empty_batch_is_zero(subject: Subject) -> None:
    assert run(subject, torch.zeros(0, NUM_LABELS)) == 0


def test_labels_of_any_type_give_the_same_value(subject: Subject) -> None:
    labels = random_labels()
    values = [
        run(subject, labels.to(t))
        for t in (torch.bool, torch.uint8, torch.int64, torch.float32, torch.float16)
    ]
    assert len({value.item() for value in values}) == 1


def test_the_value_is_reproducible_and_the_same_without_gradients(subject: Subject) -> None:
    name, file = subject
    labels = random_labels()
    with_graph = run(subject, labels)
    with torch.no_grad():
        value = build(name, file)(*inputs_for(name, len(labels), file, torch.float32).values(), labels)
    assert value == with_graph == run(subject, labels)


def test_gradients_equal_finite_differences(subject: Subject) -> None:
    name, file = subject
    if name in ("reg", "joint", "kmcl", "asl"):
        # reg's gradient is not that of its value, by definition; the focal weights of kmcl are detached; asl is
        # not smooth where probabilities meet the clip. All of these are compared with brute force.
        settings = {"asl": {"clip": 0.0}, "joint": {"weight": 0.3}, "kmcl": {"detach_focal": False}}.get(name)
        if settings is None:
            pytest.skip("the detached term of reg has no gradient")
    else:
        settings = {}
    labels = LABELS["a row without labels"]
    loss = build(name, file, **settings).double()
    inputs = inputs_for(name, len(labels), file)
    assert torch.autograd.gradcheck(lambda *x: loss(*x, labels), tuple(inputs.values()), atol=1e-6)


def test_survives_pickling_and_shows_its_hyperparameters(subject: Subject) -> None:
    name, file = subject
    loss = build(name, file)
    copy = pickle.loads(pickle.dumps(loss))
    labels = random_labels()
    inputs = inputs_for(name, len(labels), file, torch.float32)
    assert copy(*inputs.values(), labels) == loss(*inputs.values(), labels)
    for key in losses.describe(name, file).hyperparameters.keys() - losses.describe(name, file).parts.keys():
        assert f"{key}=" in repr(loss)


def test_wrong_inputs_are_refused(subject: Subject) -> None:
    name, file = subject
    loss, labels = build(name, file), random_labels()
    inputs = list(inputs_for(name, len(labels), file, torch.float32).values())
    for wrong, message in [
        ([*inputs, labels[:, :-1]], r"labels must have shape \(6, 5\), got \(6, 4\)"),
        ([*inputs, labels[:-1]], r"labels must have shape \(6, 5\), got \(5, 5\)"),
        ([*inputs, labels * 2], r"labels must be 0 or 1 everywhere, found 2"),
        ([*inputs, labels * torch.nan], r"labels must be 0 or 1 everywhere, found nan"),
        ([*inputs, labels.tolist()], "labels must be a tensor, got list"),
        ([*(x[0] for x in inputs), labels], r"must have shape \(B, .*\), got"),
        ([*(x.long() for x in inputs), labels], "must be a floating-point tensor, got torch.int64"),
    ]:
        with pytest.raises(losses.LossInputError, match=message):
            loss(*wrong)


@pytest.mark.parametrize("name", [n for n in losses.names() if takes_references(n)])
def test_wrong_references_are_refused(name: str) -> None:
    loss, labels = build(name), random_labels()
    if "batch" not in getattr(loss, "references", ("batch",)):
        pytest.skip("its references are prototypes alone")
    inputs = inputs_for(name, len(labels), dtype=torch.float32).values()
    with pytest.raises(
        losses.LossInputError, match=r"reference embeddings must have shape \(B, 7\), got \(3, 8\)"
    ):
        loss(*inputs, labels, references=(torch.ones(3, WIDTH + 1), labels[:3]))
    with pytest.raises(
        losses.LossInputError, match=r"reference labels must have shape \(3, 5\), got \(2, 5\)"
    ):
        loss(*inputs, labels, references=(torch.ones(3, WIDTH), labels[:2]))
    with pytest.raises(losses.LossInputError, match="must be a pair"):
        loss(*inputs, labels, references=torch.ones(3, WIDTH))


@pytest.mark.parametrize("name", [n for n in losses.names() if takes_references(n)])
def test_an_empty_queue_and_a_queue_without_positives_are_finite(name: str) -> None:
    loss, labels = build(name), random_labels()
    inputs = inputs_for(name, len(labels), dtype=torch.float32)
    for references in (
        (torch.ones(0, WIDTH), labels[:0]),
        (torch.ones(3, WIDTH), torch.zeros(3, NUM_LABELS)),
    ):
        value = loss(*inputs.values(), labels, references=references)
        assert torch.isfinite(value)
        assert all(torch.isfinite(g).all() for g in gradients(value, loss, inputs).values())


class _NothingFromTheHost(TorchDispatchMode):
    """Refuses tensors made of Python numbers, which are copied to a GPU while the host waits."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func is not torch.ops.aten.lift_fresh.default, "a tensor is made of a Python number"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", [name for name in losses.names() if name not in ("kmcl", "gma_scl")])
def test_no_value_goes_between_host_and_device(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given labels of type bool, as in training. Tensors on the device "meta" have no values, and fail where one
    is read. KMCL reads the number of labels of its anchors, GMA-SCL which labels the items carry."""
    labels = LABELS["ordinary"].bool().to("meta")
    inputs = [
        leaf.detach().to("meta").requires_grad_()
        for leaf in inputs_for(name, len(labels), dtype=torch.float32).values()
    ]
    loss = build(name).to("meta")
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: nullcontext())  # has no device "meta"
    with _NothingFromTheHost():
        loss(*inputs, labels).backward()
    assert all(leaf.grad is not None for leaf in inputs)
