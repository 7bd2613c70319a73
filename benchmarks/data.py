"""Speed of prepared datasets against decoding and tokenising in every epoch, as the papers' code does.

`python benchmarks/data.py --data-root RAW [--quick] [--json PATH]` prints a table; `--json` writes a list of
`{case, metric, value}`. Needs the VOC2007 archives (or a subset of them) and GoEmotions in the data root. Both
sides have the same number of workers and are timed in turns in one process.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Annotated, Any

os.environ.setdefault("RAYON_NUM_THREADS", "1")  # the tokenizer's own threads: one worker is one core

import numpy as np
import torch
import typer

import data_prep
from data_prep.readers.archives import members
from mlcl.data import PreparedDataset, open_dataset
from mlcl.training.inputs.batches import Images
from mlcl.training.inputs.transforms import NAMED

SIZE, BATCH = 224, 64
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SMALL = ["goemotions"]
DATA_ROOT = typer.Option(help="Raw files: voc2007/ and goemotions/.", envvar="MLCL_DATA_ROOT")
# The child reads its own peak memory: what getrusage reports of a child includes memory shared with its parent.
PREPARE_AND_REPORT = """
import sys
from pathlib import Path
from data_prep.__main__ import app
app(sys.argv[1:], standalone_mode=False)
print(next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")))
"""
Loader = Callable[[], Iterable[Any]]


def main(
    data_root: Annotated[Path, DATA_ROOT] = Path("../shared/data"),
    workers: Annotated[int, typer.Option(help="Workers on both sides.")] = 1,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer rounds: under a minute.")] = False,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the results there.")] = None,
) -> None:
    """Run all cases and print them."""
    torch.set_num_threads(1)
    rounds, images = (1, 256) if quick else (3, 500)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        results = image_cases(data_root, out, workers, rounds, images)
        results += token_cases(data_root, out, rounds)
        results += memory_cases(data_root, out, SMALL if quick else [*SMALL, "scipy_docs", "voc2007"])
    for result in results:
        print(f"{result['case']:<32}{result['metric']:<32}{result['value']:>12.4g}")
    if json_path is not None:
        json_path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def prepared(name: str, data_root: Path, out: Path, **settings: Any) -> PreparedDataset:
    """A dataset of the data root, prepared into the folder."""
    recipe = data_prep.plan(name, settings, data_root, accept_local=True)
    data_prep.prepare(recipe, data_root, out / name)
    return open_dataset(out / name)


def image_cases(data_root: Path, out: Path, workers: int, rounds: int, images: int) -> list[dict[str, Any]]:
    """Images per second into normalised batches, without and with RandAugment (2, 9)."""
    dataset = prepared("voc2007", data_root, out, size=SIZE, split="comprehensive")
    archive = data_root / "voc2007" / "VOCtrainval_06-Nov-2007.tar"
    encoded = [content for _, content in members(archive, ".jpg")][:images]
    results: list[dict[str, Any]] = []
    for name in ("basic", "randaugment"):
        rates = best_rates(
            {
                "prepared": partial(from_store, dataset, name, workers, len(encoded)),
                "jpeg": partial(from_jpegs, encoded, name, workers),
            },
            len(encoded),
            rounds,
        )
        results += comparison(
            f"images_{name}_{workers}_workers", "images_per_second", rates["prepared"], rates["jpeg"]
        )
    return results


def from_store(
    dataset: PreparedDataset, augmentation: str, workers: int, count: int
) -> Iterator[torch.Tensor]:
    """Batches from the memory map, made as training and image encoders do; each worker thread makes whole batches."""
    inputs = Images(dataset["train"].images)
    order = np.random.default_rng(0).permutation(len(inputs))[:count]
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))

    def batch(start: int) -> torch.Tensor:
        (stored,) = inputs.gather(order[start : start + BATCH])
        augmented = NAMED[augmentation](stored, torch.Generator().manual_seed(start))
        return inputs.form((augmented,)).sub_(mean).div_(std)

    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(batch, range(0, len(order), BATCH))


class Jpegs(torch.utils.data.Dataset[torch.Tensor]):
    """Decodes, resizes, augments and normalises one image at a time, with Pillow and torchvision."""

    def __init__(self, encoded: Sequence[bytes], augmentation: str) -> None:
        from torchvision import transforms

        augment = [transforms.RandAugment(2, 9)] if augmentation == "randaugment" else []
        normalise = transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD)
        resize = transforms.Resize((SIZE, SIZE))
        self.encoded = encoded
        self.transform = transforms.Compose([resize, *augment, transforms.ToTensor(), normalise])

    def __len__(self) -> int:
        return len(self.encoded)

    def __getitem__(self, row: int) -> torch.Tensor:
        from PIL import Image

        with Image.open(io.BytesIO(self.encoded[row])) as image:
            return self.transform(image.convert("RGB"))


def from_jpegs(encoded: Sequence[bytes], augmentation: str, workers: int) -> Iterator[torch.Tensor]:
    """Batches of a DataLoader; a single worker runs in this process."""
    processes = workers if workers > 1 else 0
    dataset = Jpegs(encoded, augmentation)
    yield from torch.utils.data.DataLoader(dataset, batch_size=BATCH, shuffle=True, num_workers=processes)


def token_cases(data_root: Path, out: Path, rounds: int) -> list[dict[str, Any]]:
    """Tokens per second into padded batches, one worker on both sides."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    dataset = prepared("goemotions", data_root, out)
    train = dataset["train"]
    spec = {"kind": "bpe", "vocab_size": 8000}
    tokens = train.tokens(spec)
    file = next((dataset.folder / "tokens").glob("bpe-*/tokenizer.json"))
    wrapped = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_file(str(file)), pad_token="[PAD]")
    rows = np.random.default_rng(0).permutation(len(train))[: 64 * 100]
    texts = [train.texts[int(row)] for row in rows]
    batches = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]

    def stored() -> Iterator[torch.Tensor]:
        for batch in batches:
            yield torch.from_numpy(tokens.padded(batch, 300)[0])

    def again() -> Iterator[torch.Tensor]:
        for start in range(0, len(texts), BATCH):
            chosen = texts[start : start + BATCH]
            yield wrapped(chosen, padding=True, truncation=True, max_length=300, return_tensors="pt")[
                "input_ids"
            ]

    total = int((tokens.offsets[rows + 1] - tokens.offsets[rows]).sum())
    rates = best_rates({"prepared": stored, "tokenised": again}, total, rounds)
    return comparison("tokens_1_workers", "tokens_per_second", rates["prepared"], rates["tokenised"])


def memory_cases(data_root: Path, out: Path, names: Iterable[str]) -> list[dict[str, Any]]:
    """Seconds and peak memory of preparing, in a process for each dataset; milliseconds of opening."""
    results: list[dict[str, Any]] = []
    for name in names:
        target = out / f"again_{name}"
        arguments = [name, "--data-root", str(data_root), "--accept-local", "--out", str(target)]
        start = time.perf_counter()
        command = [sys.executable, "-c", PREPARE_AND_REPORT, *arguments]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        seconds = time.perf_counter() - start
        start = time.perf_counter()
        open_dataset(target)
        opening = 1000 * (time.perf_counter() - start)
        values = {"seconds": seconds, "peak_mb": float(done.stdout.split()[-1]) / 1024, "open_ms": opening}
        results += [
            {"case": f"prepare_{name}", "metric": metric, "value": value} for metric, value in values.items()
        ]
    return results


def best_rates(loaders: dict[str, Loader], items: int, rounds: int) -> dict[str, float]:
    """Items per second of each loader: the best of `rounds` rounds, run in turns after a warm-up round."""
    best = dict.fromkeys(loaders, 0.0)
    for number in range(rounds + 1):
        for name, loader in loaders.items():
            start = time.perf_counter()
            for _ in loader():
                pass
            if number:
                best[name] = max(best[name], items / (time.perf_counter() - start))
    return best


def comparison(case: str, metric: str, ours: float, theirs: float) -> list[dict[str, Any]]:
    """Both rates and their ratio, as results."""
    values = {f"{metric}": ours, f"{metric}_official_way": theirs, "ratio": ours / theirs}
    return [{"case": case, "metric": name, "value": value} for name, value in values.items()]


if __name__ == "__main__":
    typer.run(main)
