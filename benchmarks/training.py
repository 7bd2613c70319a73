"""Where a training step's time goes: the loss's share and the input pipeline's, for each family of encoders.

`python benchmarks/training.py [--quick] [--device cuda] [--json PATH]` prints a table; `--json` writes a list of
`{case, metric, value}`. Data are random numbers in the prepared form, memory-mapped from a temporary folder; the loop
is the one that trains cells. The loss is also timed separately, forward and backward, because in a step its backward
pass cannot be separated from the encoder's. Targets: the loss under 3 % of a step for encoders of the size of
ResNet-18 and up, the input pipeline under 5 %.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import Tensor, nn

from mlcl import encoders, losses
from mlcl.data.tokens import Tokens
from mlcl.encoders import InputShape
from mlcl.encoders.flops import forward_flops
from mlcl.training.inputs.batches import Images, Inputs, Texts, TrainingSet, Vectors
from mlcl.training.inputs.transforms import NAMED
from mlcl.training.loop import FitResult, Loop
from mlcl.training.methods import Contrastive
from mlcl.training.seeding import Randomness
from mlcl.training.settings import ComputeSettings, TrainingSettings
from mlcl.training.throughput import BACKWARD, FORWARD, matrix_product_rate

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.gpu import results as campaign

LABELS, PROJECTION, VOCABULARY = 80, 256, 8000


@dataclass(frozen=True)
class Case:
    """An encoder with inputs of a typical size."""

    name: str
    encoder: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    size: int = 0
    """Side of an image in pixels, tokens of a text, or dimensions of a vector."""
    batch: int = 64
    augmentation: str = "basic"
    large: bool = False
    """Not part of --quick."""

    @property
    def modality(self) -> str:
        return encoders.describe(self.encoder).modality


BERT = {"model_type": "bert", "hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12}
MINILM = {
    "config": BERT | {"intermediate_size": 1536},
    "tokenizer": {"kind": "bpe", "vocab_size": VOCABULARY},
    "max_length": 64,
}
CASES = (
    Case("cnn, 32 px", "cnn", size=32),
    Case("transformer, 32 tokens", "transformer", size=32),
    Case("mlp, 500 dimensions", "mlp", size=500),
    Case("resnet18, 64 px", "resnet18", size=64),
    Case("resnet18, 64 px, RandAugment", "resnet18", size=64, augmentation="randaugment"),
    Case("vit_b_16, 64 px", "vit_b_16", size=64, batch=16, large=True),
    Case("resnet50, 224 px", "resnet50", size=224, batch=16, large=True),
    Case("MiniLM-shaped BERT, 64 tokens", "huggingface", MINILM, size=64, large=True),
)
GPU_CASES = (
    Case("resnet50, 224 px, batch 256", "resnet50", size=224, batch=256, large=True),
    Case("vit_b_16, 224 px, batch 128", "vit_b_16", size=224, batch=128, large=True),
    Case("MiniLM-shaped BERT, 64 tokens, batch 512", "huggingface", MINILM, size=64, batch=512, large=True),
)
"""Batches that fill a GPU."""


def main(
    quick: Annotated[
        bool, typer.Option("--quick", help="Small encoders, few steps: under a minute.")
    ] = False,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 2,
    loss: Annotated[str, typer.Option(help="A loss on embeddings.")] = "reg",
    append: Annotated[Path | None, typer.Option(help="Append a JSON line for each case.")] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the results there.")] = None,
) -> None:
    """Run all cases and print them."""
    torch.set_num_threads(threads)
    compute = ComputeSettings.model_validate(
        {"device": device, "threads": threads, "precision": "mixed" if device == "cuda" else "fp32"}
    )
    rate = matrix_product_rate(torch.device(device), compute)
    print(f"loss {loss}, {LABELS} labels; matrix product on {device}: {rate / 1e9:.0f} GFLOP/s")
    print(f"{'encoder':<32}{'batch':>6}{'step':>10}{'examples/s':>12}{'loss':>8}{'data':>8}{'FLOP rate':>11}")
    results = []
    for case in CASES if device == "cpu" else (*CASES, *GPU_CASES):
        if quick and case.large:
            continue
        measured = measure(case, loss, compute, steps=5 if quick else 10)
        measured["flop_rate_share"] = measured.pop("flops_per_second") / rate
        campaign.add(append, "training", case=case.name, batch=case.batch, loss=loss, **measured)
        results += [{"case": case.name, "metric": key, "value": value} for key, value in measured.items()]
        print(
            f"{case.name:<32}{case.batch:>6}{measured['step_seconds'] * 1000:>8.1f}ms"
            f"{measured['examples_per_second']:>12.0f}{measured['loss_share']:>8.1%}{measured['data_share']:>8.1%}"
            f"{measured['flop_rate_share']:>11.0%}"
        )
    if json_path is not None:
        json_path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def measure(case: Case, loss_name: str, compute: ComputeSettings, steps: int) -> dict[str, float]:
    """Seconds of a step and the shares of the loss and the data in it, after a warm-up of the same length."""
    device = torch.device(compute.device)
    rows = case.batch * steps
    with tempfile.TemporaryDirectory() as folder:
        inputs, shape = random_inputs(case, rows, Path(folder))
        labels = random_labels(rows).to(device)
        torch.manual_seed(0)
        encoder = encoders.create(case.encoder, case.settings, shape).to(device)
        encoder.to(memory_format=torch.channels_last)
        width = encoder.feature_dim
        projection = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, PROJECTION)).to(
            device
        )
        criterion = losses.create(loss_name, num_labels=LABELS, embedding_dim=PROJECTION).to(device)
        method = Contrastive(encoder, projection, criterion)
        augment = None if case.augmentation == "basic" else NAMED[case.augmentation]
        data = TrainingSet(inputs, labels, np.arange(rows), augment=augment)
        settings = TrainingSettings(epochs=1, batch_size=case.batch)
        train(method, settings, compute, data)
        fitted = train(method, settings, compute, data)
        step = sum(fitted.step_seconds.values()) / steps
        flops = forward_flops(encoder, inputs.take(np.arange(2), device)) / 2
    loss_seconds = time_loss(criterion, labels[: case.batch], device)
    return {
        "step_seconds": step,
        "examples_per_second": case.batch / step,
        "loss_share": loss_seconds / step,
        "data_share": fitted.step_seconds["data"] / steps / step,
        "flops_per_second": (FORWARD + BACKWARD) * flops * case.batch / step,
    }


def train(
    method: Contrastive, settings: TrainingSettings, compute: ComputeSettings, data: TrainingSet
) -> FitResult:
    random = Randomness(torch.Generator().manual_seed(0), torch.Generator().manual_seed(1))
    return Loop(settings, compute, random).fit(method, data)


def time_loss(criterion: nn.Module, labels: Tensor, device: torch.device) -> float:
    """Median seconds of the loss, forward and backward, on random embeddings."""
    embeddings = torch.randn(len(labels), PROJECTION, device=device, requires_grad=True)
    seconds = []
    for _ in range(20):
        begun = time.perf_counter()
        criterion(embeddings, labels).backward()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begun)
    return median(seconds)


def random_labels(rows: int) -> Tensor:
    """Long-tailed labels (N, L) bool, about three a row."""
    frequency = 1 / torch.arange(1, LABELS + 1)
    drawn = torch.rand(rows, LABELS, generator=torch.Generator().manual_seed(2))
    return drawn < (3 * frequency / frequency.sum()).clamp(max=0.9)


def random_inputs(case: Case, rows: int, folder: Path) -> tuple[Inputs, InputShape]:
    """Random inputs of the case's modality, memory-mapped like those of prepared datasets."""
    random, size = np.random.default_rng(0), case.size
    if case.modality == "image":
        images = stored(folder, random.integers(0, 256, (rows, size, size, 3), dtype=np.uint8))
        return Images(images), InputShape(channels=3, height=size, width=size)
    if case.modality == "vector":
        return Vectors(stored(folder, random.normal(size=(rows, size)).astype(np.float32))), InputShape(
            dimensions=size
        )
    ids = stored(folder, random.integers(4, VOCABULARY, rows * size, dtype=np.int32))
    tokens = Tokens(ids, np.arange(rows + 1, dtype=np.int64) * size, VOCABULARY, pad_id=0)
    return Texts(tokens, max_length=size, max_chunks=1), InputShape(vocab_size=VOCABULARY)


def stored(folder: Path, values: np.ndarray) -> np.ndarray:
    np.save(folder / "values.npy", values)
    mapped: np.ndarray = np.load(folder / "values.npy", mmap_mode="r")
    return mapped


if __name__ == "__main__":
    typer.run(main)
