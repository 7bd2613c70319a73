"""One rank of `test_distributed.py`: DDP around encoder and loss, each rank with its own rows of the batch.

    python distributed_worker.py RENDEZVOUS_FILE RANK SPLITS OUTPUT

SPLITS is a JSON list of lists, the rows of each rank; OUTPUT receives, from rank 0, value and gradients by case.
"""

import json
import sys

import torch
import torch.distributed as dist
from cases import NUM_LABELS, WIDTH, build
from torch import Tensor, nn

from mlcl import losses

ROWS = 6


def batch() -> tuple[Tensor, Tensor]:
    """Inputs of the encoder and labels; one row without labels."""
    generator = torch.Generator().manual_seed(5)
    labels = (torch.rand(ROWS, NUM_LABELS, generator=generator) < 0.4).long()
    labels[2] = 0
    return torch.randn(ROWS, 3, generator=generator, dtype=torch.float64), labels


class Model(nn.Module):
    """Encoder, classifier and loss in one module, so that DDP averages the gradients of all of them."""

    def __init__(self, name: str) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.wants = losses.describe(name).inputs
        self.encoder = nn.Linear(3, WIDTH).double()
        self.classifier = nn.Linear(WIDTH, NUM_LABELS).double() if self.wants in ("logits", "both") else None
        self.loss = build(name).double()

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        embeddings = self.encoder(x)
        inputs = [] if self.wants == "logits" else [embeddings]
        if self.classifier is not None:
            inputs.append(self.classifier(embeddings))
        value: Tensor = self.loss(*inputs, labels)
        return value


def one_process(name: str) -> dict[str, Tensor]:
    return collect(model := Model(name), model(*batch()))


def collect(model: nn.Module, value: Tensor) -> dict[str, Tensor]:
    value.backward()
    return {
        "value": value.detach(),
        **{key: p.grad.clone() for key, p in model.named_parameters() if p.grad is not None},
    }


def main() -> None:
    rendezvous, rank, splits, output = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3]), sys.argv[4]
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=len(splits[0]))
    results = {}
    for split in splits:
        for name in losses.names():
            model = Model(name)
            losses.across_processes(model.loss)
            parts = [part.split(split)[rank] for part in batch()]
            ddp = nn.parallel.DistributedDataParallel(model)  # must live until the backward pass
            results[f"{name} {split}"] = collect(model, ddp(*parts))
    if rank == 0:
        torch.save(results, output)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
