"""Processes and GPUs: a group of one over NCCL, slots that cells take, and a model that is used elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlcl.study import gpus
from mlcl.training.settings import CellSettings, ComputeSettings, EncoderPart

pytestmark = pytest.mark.gpu

ROOT = Path(__file__).parents[2]
GROUP_OF_ONE = """
import torch, torch.distributed as dist
from mlcl import losses
dist.init_process_group("{backend}", store=dist.HashStore(), rank=0, world_size=1)
generator = torch.Generator().manual_seed(0)
embeddings = torch.randn(64, 16, generator=generator)
labels = torch.rand(64, 9, generator=generator) < 0.3
for name in ("mulsupcon", "reg", "prototype", "bce"):
    found = []
    for linked in (False, True):
        loss = losses.create(name, 9, 16, generator=torch.Generator().manual_seed(1)).to("{device}")
        if linked:
            losses.across_processes(loss)
        leaf = embeddings[:, :9 if name == "bce" else 16].to("{device}").requires_grad_()
        value = loss(leaf, labels.to("{device}"))
        found.append((value, torch.autograd.grad(value, leaf)[0]))
    for a, b in zip(*found):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
total = torch.ones(3, device="{device}")
dist.all_reduce(total)
assert total.tolist() == [1, 1, 1]
dist.destroy_process_group()
"""


def test_losses_in_a_group_of_one_are_what_they_are_alone(device: str) -> None:
    backend = "nccl" if device == "cuda" else "gloo"
    code = GROUP_OF_ONE.format(backend=backend, device=device)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_cell_takes_a_gpu_that_is_there(
    device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a rehearsal without a GPU, the environment names one."""
    if device != "cuda":
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    gpus.visible.cache_clear()
    assert len(gpus.visible()) >= 1
    on_gpu, on_cpu = (
        CellSettings.model_construct(encoder=EncoderPart.model_construct(), compute=ComputeSettings(device=d))
        for d in ("auto", "cpu")
    )
    assert gpus.gpus_needed(on_gpu) == 1
    assert gpus.gpus_needed(on_cpu) == 0
    with gpus.reserve_gpus(on_gpu, tmp_path):
        assert len(os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")) == 1
        if device == "cuda":
            code = "import torch; assert torch.cuda.device_count() == 1; torch.ones(2, device='cuda').sum().item()"
            subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    gpus.visible.cache_clear()
