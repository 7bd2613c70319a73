"""The Triton kernel equals the torch one; run on the CPU by Triton's interpreter, in a process of its own."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from cases import LABELS, ROOT, build, gradients, inputs_for

from mlcl import losses


def tiles_agree() -> None:
    """The function on its own: widths around the block, with and without self column, weights, REG's switch."""
    from mlcl.losses._tile import TileOptions, torch_tile
    from mlcl.losses._triton import triton_tile

    generator = torch.Generator().manual_seed(0)
    for rows, width in ((3, 5), (2, 1030)):  # within one block of columns, and beyond it
        for options in (
            TileOptions(),
            TileOptions(self_column=0, never_push_positives=True),
            TileOptions(self_column=0, weighted_columns=width // 2, column_weight=0.1),
            TileOptions(width - rows, width // 2, 0.1, never_push_positives=True),
        ):
            scores = 5 * torch.randn(rows, width, generator=generator)
            weights = torch.rand(rows, width, generator=generator) * (scores > 3)
            if options.self_column is not None:
                weights.diagonal(options.self_column).zero_()
            ours = triton_tile(scores.clone(), weights, options)
            for a, b in zip(ours, torch_tile(scores.clone(), weights, options), strict=True):
                torch.testing.assert_close(a, b, rtol=2e-6, atol=5e-6)


def losses_agree() -> None:
    """Every kernel loss on every awkward batch, with the tile exchanged."""
    from mlcl.losses import _kernel
    from mlcl.losses._tile import torch_tile
    from mlcl.losses._triton import triton_tile

    for name in losses.names():
        if losses.describe(name).inputs != "embeddings":
            continue
        for labels in LABELS.values():
            loss, inputs = build(name), inputs_for(name, len(labels), dtype=torch.float32)
            found = []
            for tile in (torch_tile, triton_tile):
                _kernel.softmax_tile = tile
                value = loss(*inputs.values(), labels)
                found.append([value, *gradients(value, loss, inputs).values()])
            for a, b in zip(*found, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "check", [tiles_agree, pytest.param(losses_agree, marks=pytest.mark.slow)], ids=["tiles", "losses"]
)
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_triton_equals_torch_in_the_interpreter(check: object) -> None:
    folder = str(Path(__file__).parent)
    code = f"import torch; torch.set_num_threads(1); import test_triton; test_triton.{check.__name__}()"  # type: ignore[attr-defined]
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join([folder, str(ROOT)])}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=500
    )
    assert run.returncode == 0, run.stderr[-3000:]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_the_losses_equal_those_on_the_cpu() -> None:
    for name in losses.names():
        for labels in LABELS.values():
            loss, inputs = build(name), inputs_for(name, len(labels), dtype=torch.float32)
            value = loss(*inputs.values(), labels)
            expected = [value, *gradients(value, loss, inputs).values()]
            loss = loss.cuda()
            inputs = {key: leaf.detach().cuda().requires_grad_() for key, leaf in inputs.items()}
            value = loss(*inputs.values(), labels.cuda())
            for a, b in zip([value, *gradients(value, loss, inputs).values()], expected, strict=True):
                torch.testing.assert_close(
                    a.cpu(), b, rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
                )
