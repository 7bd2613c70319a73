"""2 and 3 gloo processes under DDP give the value and the gradients of one process that holds the whole batch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from cases import ROOT
from distributed_worker import one_process

from mlcl import losses

# The rows that each rank holds: even, uneven as in a last batch, and ranks without any.
SPLITS = {2: [[5, 1]], 3: [[2, 2, 2], [4, 0, 2], [0, 0, 6]]}


@pytest.fixture(
    scope="module", params=[2, pytest.param(3, marks=pytest.mark.slow)], ids=lambda n: f"{n} processes"
)
def results(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, torch.Tensor]]:
    folder: Path = tmp_path_factory.mktemp("ranks")
    worker = Path(__file__).with_name("distributed_worker.py")
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(worker.parent)]),
        "OMP_NUM_THREADS": "1",
    }
    ranks = [
        subprocess.Popen(
            [
                sys.executable,
                worker,
                folder / "rendezvous",
                str(rank),
                json.dumps(SPLITS[request.param]),
                folder / "out.pt",
            ],
            env=environment,
            stderr=subprocess.PIPE,
        )
        for rank in range(request.param)
    ]
    errors = [rank.communicate(timeout=300)[1] for rank in ranks]
    assert all(rank.returncode == 0 for rank in ranks), b"\n".join(errors).decode()
    return torch.load(folder / "out.pt")


@pytest.mark.parametrize("name", losses.names())
def test_ranks_together_equal_one_process(name: str, results: dict[str, dict[str, torch.Tensor]]) -> None:
    expected = one_process(name)
    found = {case: values for case, values in results.items() if case.split()[0] == name}
    assert found
    for case, values in found.items():
        assert values.keys() == expected.keys()
        for key, value in values.items():
            torch.testing.assert_close(
                value, expected[key], rtol=1e-7, atol=1e-10, msg=lambda m, c=case, k=key: f"{c} {k}: {m}"
            )
