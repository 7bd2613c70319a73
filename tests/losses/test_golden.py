"""Values and gradients equal those of the papers' official code (tests/golden, see its README)."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from mlcl import losses

GOLDEN = Path(__file__).parents[1] / "golden"

# file prefix -> (our loss, names of the hyperparameters to take from the file, fixed hyperparameters)
CONTRASTIVE: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {
    "base": ("jaccard", (), {}),
    "mulsupcon": ("mulsupcon", (), {}),
    "proto": ("prototype", (), {}),
    "msc": ("abalone", ("alpha", "beta"), {}),
    "mscrg": ("reg", ("alpha",), {}),
    "mscwrg": ("reg_ablated", ("alpha",), {}),
    "msrepo_all": ("supcon_all", (), {}),
    "msrepo_any": ("supcon_any", (), {}),
    "msrepo_MulSupCon": ("mulsupcon", (), {}),
    "msrepo_MulSupCon_w": ("mulsupcon", (), {"per_anchor": True}),
}


def golden_files(*prefixes: str) -> list[Any]:
    files = [p for p in sorted(GOLDEN.glob("*.json")) if family(p) in prefixes]
    assert files, f"no golden files for {prefixes}"
    return [pytest.param(p, id=p.stem) for p in files]


def family(path: Path) -> str:
    """The loss in a file's name, without the case and the settings of the comprehensive study's losses."""
    name = path.stem.split("__")[0]
    return name.split("_")[0] if name.startswith(("msc", "asymmetric", "kmcl")) else name


def load(path: Path) -> dict[str, Any]:
    golden: dict[str, Any] = json.loads(path.read_text())
    return golden


def tensor(values: Any) -> torch.Tensor:
    """A float64 tensor; the files write non-finite numbers as strings, which `float` reads."""

    def convert(v: Any) -> Any:
        return [convert(x) for x in v] if isinstance(v, list) else float(v)

    return torch.tensor(convert(values), dtype=torch.float64)


def assert_parity(ours: torch.Tensor, official: Any, rtol: float, what: str, floor: float = 1e-6) -> None:
    """Relative to the tensor's largest entry, or to `floor`; where the official code has NaN ours is finite."""
    ours, expected = ours.cpu().double(), tensor(official)
    assert torch.isfinite(ours).all(), what
    comparable = torch.isfinite(expected)
    if not comparable.any():
        return
    scale = expected[comparable].abs().max().item()
    worst = (ours - expected)[comparable].abs().max().item()
    assert worst <= rtol * max(scale, floor), f"{what}: off by {worst:.2e}, scale {scale:.2e}"


@pytest.mark.parametrize("path", golden_files(*CONTRASTIVE))
def test_contrastive_losses_equal_the_official_code(path: Path) -> None:
    contrastive(load(path), path)


@pytest.mark.parametrize("path", golden_files("asymmetric", "zlpr"))
def test_classification_losses_equal_the_official_code(path: Path) -> None:
    classification(load(path), path)


@pytest.mark.parametrize("path", golden_files("kmcl"))
def test_kmcl_terms_equal_the_official_code(path: Path) -> None:
    kmcl_terms(load(path))


def contrastive(
    golden: dict[str, Any], path: Path, device: str = "cpu", dtype: torch.dtype = torch.float64
) -> None:
    """Compares value and gradients of a contrastive loss, computed on this device in this precision."""
    name, taken, fixed = CONTRASTIVE[family(path)]
    labels = torch.tensor(golden["labels"], device=device)
    features = tensor(golden["features"]).to(device, dtype).requires_grad_()
    settings = {key: golden["hyperparameters"][key] for key in taken}
    if "beta" in settings:  # the official code stores it as float32
        settings["beta"] = torch.tensor(settings["beta"], dtype=torch.float32).item()
    loss = losses.create(
        name, labels.shape[1], features.shape[1], temperature=golden["temperature"], **settings, **fixed
    ).to(device, dtype)
    if golden["prototypes"] is not None:
        loss.prototypes.data = tensor(golden["prototypes"]).to(device, dtype)
    references = None
    if "ref_features" in golden:
        references = (
            tensor(golden["ref_features"]).to(device, dtype),
            torch.tensor(golden["ref_labels"], device=device),
        )
    value = loss(features, labels, references=references)
    value.backward()
    assert_parity(value.detach(), golden["value"], golden["rtol"], "value")
    assert_parity(features.grad, golden["grad_features"], golden["rtol"], "gradient of the features")
    if golden["grad_prototypes"] is not None:
        assert_parity(loss.prototypes.grad, golden["grad_prototypes"], golden["rtol"], "prototypes' gradient")


def classification(golden: dict[str, Any], path: Path, device: str = "cpu") -> None:
    """Compares value and gradient of a loss on logits, computed on this device."""
    labels = torch.tensor(golden["labels"], device=device)
    logits = tensor(golden["features"]).to(device).requires_grad_()
    settings = {} if family(path) == "zlpr" else golden["hyperparameters"]
    loss = losses.create("zlpr" if family(path) == "zlpr" else "asl", labels.shape[1], **settings)
    value = loss(logits, labels)
    value.backward()
    value_key = "value_corrected" if "value_corrected" in golden else "value"
    gradient = golden.get("grad_features_corrected") or golden["grad_features"]
    assert_parity(value.detach(), golden[value_key], golden["rtol"], "value")
    assert_parity(logits.grad, gradient, golden["rtol"], "gradient of the logits")


def kmcl_terms(golden: dict[str, Any], device: str = "cpu") -> None:
    """Compares each term of KMCL with its gradients, computed on this device."""
    settings = golden["hyperparameters"]
    inputs = {"features": tensor(golden["features"])} | {
        k: tensor(v) for k, v in golden["extra_inputs"].items()
    }
    inputs = {key: value.to(device).requires_grad_() for key, value in inputs.items()}
    terms = losses.kmcl_terms(
        **inputs,
        labels=torch.tensor(golden["labels"], device=device),
        case=settings["loss_case"],
        official=True,
        gamma_pos=settings["gamma_pos"],
        detach_focal=settings["disable_torch_grad_focal_loss"],
    )
    terms["total"] = torch.stack(list(terms.values())).sum()
    assert terms.keys() == golden["terms"].keys()
    for name, official in golden["terms"].items():
        gradients = torch.autograd.grad(
            terms[name], list(inputs.values()), retain_graph=True, allow_unused=True
        )
        assert_parity(terms[name].detach(), official["value"], golden["rtol"], name)
        if name == "total":  # its gradient is not in the files
            continue
        for (key, value), gradient in zip(inputs.items(), gradients, strict=True):
            ours = torch.zeros_like(value) if gradient is None else gradient
            expected = official["grad"].get(key) or torch.zeros_like(value).tolist()
            # The official contrastive term is float32: below 0.1 its gradients are rounding errors.
            assert_parity(
                ours, expected, golden["rtol"], f"gradient of {name} with respect to {key}", floor=0.1
            )


def test_some_official_values_are_nan_and_all_ours_were_compared() -> None:
    """The comparison above skips official NaN: make sure that it is the exception."""
    values = [float(load(p)["value"]) for p in GOLDEN.glob("*.json")]
    assert 0 < sum(map(math.isnan, values)) < 0.25 * len(values)
