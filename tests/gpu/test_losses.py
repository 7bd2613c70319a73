"""Losses on a GPU: the official values, float64 in place of float32, and finite whatever comes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from cases import LABELS, build, gradients, inputs_for
from test_golden import (
    CONTRASTIVE,
    assert_parity,
    classification,
    contrastive,
    golden_files,
    kmcl_terms,
    load,
)
from torch import Tensor

from mlcl import losses
from mlcl.losses._kernel import softmax_tile
from mlcl.losses._tile import TileOptions, torch_tile

pytestmark = pytest.mark.gpu

KERNEL_LOSSES = [name for name in losses.names() if losses.describe(name).inputs == "embeddings"]


@pytest.mark.parametrize("path", golden_files(*CONTRASTIVE))
def test_contrastive_losses_equal_the_official_code(path: Path, device: str) -> None:
    contrastive(load(path), path, device)


@pytest.mark.parametrize("path", golden_files("asymmetric", "zlpr"))
def test_classification_losses_equal_the_official_code(path: Path, device: str) -> None:
    classification(load(path), path, device)


@pytest.mark.parametrize("path", golden_files("kmcl"))
def test_kmcl_terms_equal_the_official_code(path: Path, device: str) -> None:
    kmcl_terms(load(path), device)


@pytest.mark.parametrize("path", golden_files(*CONTRASTIVE))
def test_contrastive_losses_in_float32_are_near_the_official_code(path: Path, device: str) -> None:
    """In float32 a GPU takes the fused tile; values of order 1 to 10 and gradients lose what rounding takes."""
    golden = load(path)
    contrastive(golden | {"rtol": max(golden["rtol"], 2e-4)}, path, device, torch.float32)


OPTIONS = {
    "plain": lambda rows, width: TileOptions(),
    "itself": lambda rows, width: TileOptions(self_column=0),
    "itself, positives never pushed": lambda rows, width: TileOptions(
        self_column=0, never_push_positives=True
    ),
    "weighted columns": lambda rows, width: TileOptions(None, width // 2, 0.1),
    "all of them": lambda rows, width: TileOptions(
        max(width - rows, 0), width // 2, 0.1, never_push_positives=True
    ),
}


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize(
    ("rows", "width"),
    [(1, 1), (1, 2), (3, 5), (7, 31), (64, 64), (100, 999), (33, 1024), (17, 1025), (5, 4097), (2, 70_000)],
)
def test_the_tile_equals_torch_s_in_float64(rows: int, width: int, options: str, device: str) -> None:
    chosen = OPTIONS[options](rows, width)
    generator = torch.Generator().manual_seed(rows * width)
    scores = 5 * torch.randn(rows, width, generator=generator)
    weights = torch.rand(rows, width, generator=generator) * (
        torch.rand(rows, width, generator=generator) < 0.2
    )
    if chosen.self_column is not None:
        weights.diagonal(chosen.self_column).zero_()
    ours = softmax_tile(scores.to(device), weights.to(device), chosen)
    exact = torch_tile(scores.double(), weights.double(), chosen)
    for what, a, b in zip(("value", "mass", "gradient"), ours, exact, strict=True):
        assert torch.isfinite(a).all(), what
        error = (a.cpu().double() - b).norm() / b.norm().clamp_min(1e-6)
        assert error < 2e-5, f"{what}: relative error {error:.1e}"


@pytest.mark.parametrize("width", [1, 5, 3000])
def test_a_tile_without_any_allowed_pair_is_zero(width: int, device: str) -> None:
    """One row that may see itself alone, and rows without any weight."""
    value, mass, gradient = softmax_tile(
        torch.randn(1, width, device=device), torch.zeros(1, width, device=device), TileOptions(self_column=0)
    )
    for found in (value, mass, gradient):
        assert torch.equal(found, torch.zeros_like(found))


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("name", losses.names())
def test_losses_equal_those_on_the_cpu(name: str, labels: Tensor, device: str) -> None:
    loss, inputs = build(name), inputs_for(name, len(labels), dtype=torch.float32)
    value = loss(*inputs.values(), labels)
    expected = [value, *gradients(value, loss, inputs).values()]
    loss = loss.to(device)
    inputs = {key: leaf.detach().to(device).requires_grad_() for key, leaf in inputs.items()}
    value = loss(*inputs.values(), labels.to(device))
    for ours, theirs in zip([value, *gradients(value, loss, inputs).values()], expected, strict=True):
        torch.testing.assert_close(ours.cpu(), theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in losses.names() if name not in ("kmcl", "gma_scl")])
def test_the_host_does_not_wait_for_the_device(name: str, device: str) -> None:
    """KMCL reads the number of labels of its anchors, GMA-SCL which labels the items carry; no other loss may wait,
    given labels as training has them."""
    if device != "cuda":
        pytest.skip("only CUDA tells when the host waits")
    labels = LABELS["ordinary"].bool().to(device)
    loss = build(name).to(device)
    inputs = {
        key: leaf.detach().to(device).requires_grad_()
        for key, leaf in inputs_for(name, len(labels), dtype=torch.float32).items()
    }
    loss(*inputs.values(), labels).backward()  # compiles kernels
    torch.cuda.set_sync_debug_mode("error")
    try:
        loss(*inputs.values(), labels).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


CHANGES: dict[str, Any] = {
    "all zero": torch.zeros_like,
    "all equal": torch.ones_like,
    "duplicates": lambda x: x[:1].expand_as(x),
    "plus and minus 200": lambda x: 200 * x.sign(),
    "tiny": lambda x: 1e-12 * x,
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", losses.names())
def test_values_and_gradients_are_finite_on_every_batch(name: str, dtype: torch.dtype, device: str) -> None:
    loss = build(name).to(device)
    for case, labels in LABELS.items():
        for change, changed in CHANGES.items():
            inputs = {
                key: changed(leaf.detach()).to(device, dtype).requires_grad_()
                for key, leaf in inputs_for(name, len(labels), dtype=torch.float32).items()
            }
            with torch.autocast(device, dtype=dtype, enabled=dtype != torch.float32):
                value = loss(*inputs.values(), labels.to(device))
            found = [value, *gradients(value, loss, inputs).values()]
            assert all(torch.isfinite(x).all() for x in found), f"{case}, {change}"


KERNELS = ["tile", "fused"]
SHAPES = [
    (1, 1, 1),
    (2, 5, 3),
    (37, 7, 100),
    (128, 128, 128),
    (129, 1000, 64),
    (513, 37, 33),
    (2048, 90, 256),
]
"""Rows, labels, width of the embeddings, which the fused form pads to a power of two, and compiles anew for each."""


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", KERNEL_LOSSES)
def test_values_and_gradients_equal_float64(
    name: str, kernel: str, shape: tuple[int, int, int], device: str
) -> None:
    """Relative error of value and gradients in float32, several tiles where the batch is large."""
    rows, labels, width = shape
    generator = torch.Generator().manual_seed(rows)
    multi_hot = (torch.rand(rows, labels, generator=generator) < 3 / labels).to(device)
    multi_hot[: rows // 10] = False  # anchors without labels
    embeddings = torch.randn(rows, width, generator=generator).to(device)
    found = []
    for dtype in (torch.float32, torch.float64):
        loss = losses.create(name, labels, width, generator=torch.Generator().manual_seed(0)).to(
            device, dtype
        )
        loss.tile_elements = 2**18
        loss.kernel = kernel if dtype == torch.float32 else "tile"
        leaf = embeddings.to(dtype).requires_grad_()
        value = loss(leaf, multi_hot)
        found.append([value, *torch.autograd.grad(value, [leaf, *loss.parameters()])])
        if kernel == "fused" and dtype == torch.float32 and loss.kernel_used != "fused":
            pytest.skip(loss.kernel_used)
    for ours, exact in zip(*found, strict=True):
        assert torch.isfinite(ours).all()
        assert ((ours.double() - exact).norm() / exact.norm().clamp_min(0.01)).item() < 1e-4


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("name", KERNEL_LOSSES)
def test_the_fused_form_equals_the_tile_on_awkward_batches(name: str, labels: Tensor, device: str) -> None:
    found = []
    for kernel in KERNELS:
        loss = build(name).to(device)
        loss.kernel = kernel
        inputs = {
            key: leaf.detach().to(device).requires_grad_()
            for key, leaf in inputs_for(name, len(labels), dtype=torch.float32).items()
        }
        value = loss(*inputs.values(), labels.to(device))
        found.append([value, *gradients(value, loss, inputs).values()])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_the_golden_tests_can_fail(device: str) -> None:
    path = next(p.values[0] for p in golden_files("mulsupcon"))
    with pytest.raises(AssertionError, match="value"):
        contrastive(load(path) | {"value": 1e3}, path, device)
    assert_parity(torch.zeros(1), [0.0], 1e-6, "zero")


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", ["jaccard", "mulsupcon"])
def test_a_large_batch_takes_the_fused_form_by_itself(name: str, change: str, cuda: str) -> None:
    """On Hopper, where it was timed; value and gradient are the tile form's, also for extreme embeddings."""
    if torch.cuda.get_device_capability() != (9, 0):
        pytest.skip("the fused form is the default on Hopper only (compute capability 9.0)")
    rows, labels, width = 4200, 4000, 64
    generator = torch.Generator().manual_seed(0)
    multi_hot = (torch.rand(rows, labels, generator=generator) < 3 / labels).to(cuda)
    embeddings = CHANGES[change](torch.randn(rows, width, generator=generator)).to(cuda)
    found = []
    for kernel in ("auto", "tile"):
        loss = losses.create(name, labels, width)
        loss.kernel = kernel
        leaf = embeddings.clone().requires_grad_()
        value = loss(leaf, multi_hot)
        found.append([value, *torch.autograd.grad(value, leaf)])
        assert loss.kernel_used == ("fused" if kernel == "auto" else "tile")
    for ours, theirs in zip(*found, strict=True):
        assert torch.isfinite(ours).all()
        assert ((ours - theirs).norm() / theirs.norm().clamp_min(0.01)).item() < 1e-3
