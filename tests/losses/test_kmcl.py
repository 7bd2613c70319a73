"""KMCL's contrast in tiles: the same value and gradients as in one piece, memory below B x B x L, any precision."""

import sys

import pytest
import torch
from cases import ROOT

from mlcl import losses

sys.path.insert(0, str(ROOT))
from benchmarks.losses import megabytes_of


def batch(rows: int, num_labels: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.rand(rows, num_labels, generator=generator) < 3 / num_labels
    labels[0], labels[1] = False, True
    return torch.randn(rows, width, dtype=torch.float64, generator=generator), labels


@pytest.mark.parametrize(("case", "dimensions"), [("isotropic", 1), ("anisotropic", 4)])
def test_tiles_give_the_value_and_gradients_of_one_piece(case: str, dimensions: int) -> None:
    features, labels = batch(30, 9, 4)
    generator = torch.Generator().manual_seed(1)
    kernels = [torch.rand(30, 9 * dimensions, dtype=torch.float64, generator=generator) for _ in range(2)]
    mu, var = kernels[0].requires_grad_(), (kernels[1] + 1).requires_grad_()
    results = []
    for tile_elements in (2**20, 500, 1):
        terms = losses.kmcl_terms(
            features,
            features @ torch.ones(4, 9).double(),
            mu,
            var,
            labels,
            case=case,
            tile_elements=tile_elements,
        )
        results.append([terms["contrastive"], *torch.autograd.grad(terms["contrastive"], [mu, var])])
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=1e-12, atol=1e-15)


def test_the_gradients_equal_finite_differences() -> None:
    _, labels = batch(6, 4, 3)
    generator = torch.Generator().manual_seed(2)
    mu, var = (torch.rand(6, 12, dtype=torch.float64, generator=generator).requires_grad_() for _ in range(2))
    features, pi = torch.zeros(6, 3, dtype=torch.float64), torch.zeros(6, 4, dtype=torch.float64)

    def contrast(mu: torch.Tensor, var: torch.Tensor) -> torch.Tensor:
        return losses.kmcl_terms(features, pi, mu, var + 1, labels, case="anisotropic")["contrastive"]

    assert torch.autograd.gradcheck(contrast, (mu, var))


def test_memory_stays_below_one_tensor_of_pairs_and_labels() -> None:
    rows, num_labels = 128, 400
    features, labels = batch(rows, num_labels, 8)
    loss = losses.create("kmcl", num_labels, 8, generator=torch.Generator().manual_seed(0))
    leaf = features.float().requires_grad_()

    def step() -> None:
        torch.autograd.grad(loss(leaf, labels), [leaf, *loss.parameters()])

    assert megabytes_of(step, "cpu") * 1e6 < 4 * rows * rows * num_labels


def test_float64_features_are_computed_in_float64() -> None:
    features, labels = batch(8, 4, 3)
    loss = losses.create("kmcl", 4, 3, generator=torch.Generator().manual_seed(0))
    value = loss(features, labels)
    assert value.dtype == torch.float64
    torch.testing.assert_close(value, loss.double()(features, labels), rtol=1e-12, atol=0)
    assert loss.logits(features.float()).dtype == torch.float32


def test_asl_of_the_kmcl_studies_is_the_term_of_kmcl() -> None:
    """The focal weight detached and eps = 1e-7, as in the official code."""
    import yaml

    generator = torch.Generator().manual_seed(3)
    logits = (8 * torch.randn(20, 5, generator=generator)).requires_grad_()
    labels = torch.rand(20, 5, generator=generator) < 0.3
    zeros = torch.zeros(20, 5)
    term = losses.kmcl_terms(zeros, logits, zeros, zeros + 1, labels)["asl"]
    expected = [term, *torch.autograd.grad(term, logits)]
    for study in ("kmcl", "kmcl_448", "kmcl_small"):
        settings = yaml.safe_load((ROOT / f"config/studies/{study}.yaml").read_text())["losses"]["asl"]
        value = losses.create("asl", 5, **settings)(logits, labels)
        torch.testing.assert_close([value, *torch.autograd.grad(value, logits)], expected)
