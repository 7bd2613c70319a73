"""The benchmark's yardstick is right: the transcriptions equal the official values, and the losses."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from cases import ROOT, build, gradients, inputs_for, random_labels

from benchmarks.reference_losses import TRANSCRIPTIONS

PREFIXES = {
    "base": "jaccard",
    "mulsupcon": "mulsupcon",
    "proto": "prototype",
    "msc_b0.1": "abalone",
    "mscwrg_a0": "reg_ablated",
    "mscrg_a0": "reg",
}
GOLDEN = [p for p in sorted((ROOT / "tests/golden").glob("*.json")) if p.stem.split("__")[0] in PREFIXES]


@pytest.mark.parametrize("path", GOLDEN, ids=lambda p: p.stem)
def test_transcriptions_equal_the_official_code(path: Path) -> None:
    golden = json.loads(path.read_text())
    if golden["value"] == "NaN":
        pytest.skip("the official code gives NaN here")
    features = torch.tensor(golden["features"], dtype=torch.float64, requires_grad=True)
    prototypes = golden["prototypes"]
    if prototypes is not None:
        prototypes = torch.tensor(prototypes, dtype=torch.float64)
    labels = torch.tensor(golden["labels"], dtype=torch.float64)
    value = TRANSCRIPTIONS[PREFIXES[path.stem.split("__")[0]]](
        features, labels, prototypes, golden["temperature"]
    )
    # beta is float32(0.1) in the official code
    assert math.isclose(value.item(), golden["value"], rel_tol=2e-7, abs_tol=1e-9)
    expected = torch.tensor(golden["grad_features"], dtype=torch.float64)
    (gradient,) = torch.autograd.grad(value, features)
    torch.testing.assert_close(gradient, expected, rtol=2e-7, atol=1e-7 * expected.abs().max().item() + 1e-12)


@pytest.mark.parametrize("name", TRANSCRIPTIONS)
def test_transcriptions_equal_the_losses(name: str) -> None:
    labels = random_labels(9)
    loss = build(name).double()
    inputs = inputs_for(name, len(labels))
    reference = TRANSCRIPTIONS[name](inputs["embeddings"], labels.double(), loss.prototypes, loss.temperature)
    value = loss(*inputs.values(), labels)
    torch.testing.assert_close(value, reference)
    expected = gradients(reference, loss, inputs)
    for key, gradient in gradients(value, loss, inputs).items():
        torch.testing.assert_close(gradient, expected[key])


@pytest.mark.slow
def test_the_benchmark_runs(tmp_path: Path) -> None:
    command = [
        sys.executable,
        ROOT / "benchmarks/losses.py",
        "--quick",
        "--losses",
        "jaccard",
        "reg",
        "--threads",
        "1",
    ]
    files = {"--json": tmp_path / "l.json", "--table": tmp_path / "l.md", "--figure": tmp_path / "l.png"}
    subprocess.run(
        [*command, *(str(x) for pair in files.items() for x in pair)], check=True, capture_output=True
    )
    records = json.loads(files["--json"].read_text())
    assert {r["metric"] for r in records} >= {"speedup", "memory_ratio", "seconds", "megabytes"}
    assert {r["case"] for r in records} == {
        f"{n}-{s}" for n in ("jaccard", "reg") for s in ("32-54", "256-103")
    }
    assert all(r["value"] is None or r["value"] > 0 for r in records)
    assert files["--figure"].stat().st_size > 1000
    assert len(files["--table"].read_text().splitlines()) == 6
