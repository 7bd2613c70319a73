"""Beyond the (B, B) matrix: tiles are exact in float32, their memory is bounded, and huge batches pass."""

import json
import subprocess
import sys

import pytest
import torch
from cases import ROOT

from mlcl import losses

KERNEL_LOSSES = [name for name in losses.names() if losses.describe(name).inputs == "embeddings"]


@pytest.mark.parametrize("name", KERNEL_LOSSES)
def test_float32_tiles_are_as_exact_as_one_float64_matrix(name: str) -> None:
    """Values to 1e-6 and gradients to 1e-5 (of the largest entry) at B = 2,048."""
    rows, num_labels, width = 2048, 120, 64
    generator = torch.Generator().manual_seed(0)
    labels = torch.rand(rows, num_labels, generator=generator) < 0.04
    embeddings = torch.randn(rows, width, generator=generator)
    results = {}
    for dtype, tile_elements in ((torch.float32, 2**18), (torch.float64, 2**30)):
        loss = losses.create(name, num_labels, width, generator=torch.Generator().manual_seed(1)).to(dtype)
        loss.tile_elements = tile_elements
        leaf = embeddings.to(dtype).requires_grad_()
        value = loss(leaf, labels)
        results[dtype] = [value, *torch.autograd.grad(value, [leaf, *loss.parameters()])]
    value, exact = results[torch.float32][0], results[torch.float64][0]
    assert abs(value.item() - exact.item()) <= 1e-6 * exact.item()
    for ours, expected in zip(results[torch.float32][1:], results[torch.float64][1:], strict=True):
        assert (ours - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("name", ["abalone", "reg"])
def test_a_batch_of_16384_with_1000_labels_passes_on_a_cpu(name: str) -> None:
    """Forward and backward with D = 256, in a process under 1.5 GB and under 3 minutes: the two dearest losses.

    The minutes are counted in processor time of two cores, since tests may share the machine.
    """
    command = [sys.executable, str(ROOT / "benchmarks/losses.py"), "--large-case", name, "--device", "cpu"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    cost = json.loads(output.splitlines()[-1])
    assert cost["megabytes"] < 1500
    assert cost["cpu_seconds"] < 2 * 180


def test_many_references_are_cut_into_tiles_too() -> None:
    """A queue far larger than the batch: the same value and gradients as in one piece."""
    generator = torch.Generator().manual_seed(0)
    labels, queue_labels = (torch.rand(n, 6, generator=generator) < 0.3 for n in (4, 5000))
    queue = torch.randn(5000, 8, generator=generator)
    embeddings = torch.randn(4, 8, generator=generator)
    results = []
    for tile_elements in (2**22, 6000):
        leaf = embeddings.clone().requires_grad_()
        loss = losses.create("mulsupcon", 6)
        loss.tile_elements = tile_elements
        value = loss(leaf, labels, references=(queue, queue_labels))
        results.append((value.detach(), *torch.autograd.grad(value, leaf)))
    torch.testing.assert_close(results[0], results[1])


@pytest.mark.parametrize("name", ["reg", "reg_ablated"])
@pytest.mark.parametrize("queue", [0, 7])
def test_prototypes_of_labels_that_no_reference_has_are_skipped_without_a_difference(
    name: str, queue: int
) -> None:
    """A batch with 40 of 50 labels absent: as when every prototype is an anchor."""
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randperm(50, generator=generator)[:10]
    labels, queue_labels = torch.zeros(12, 50), torch.zeros(queue, 50)
    labels[:, chosen] = (torch.rand(12, 10, generator=generator) < 0.4).float()
    queue_labels[:, chosen[:4]] = (torch.rand(queue, 4, generator=generator) < 0.5).float()
    embeddings = torch.randn(12, 8, dtype=torch.float64, generator=generator).requires_grad_()
    references = (torch.randn(queue, 8, generator=generator), queue_labels) if queue else None
    results = []
    for always in (False, True):
        loss = losses.create(name, 50, 8, generator=torch.Generator().manual_seed(1), alpha=1.0).double()
        loss.positives_share_labels = not always
        value = loss(embeddings, labels, references=references)
        results.append([value, *torch.autograd.grad(value, [embeddings, loss.prototypes])])
    torch.testing.assert_close(results[0], results[1], rtol=1e-12, atol=1e-14)
