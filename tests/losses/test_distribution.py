"""`mlcl-losses`, built and used without the suite: from its wheel alone, in a Python that sees nothing else of mlcl."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from cases import ROOT

from mlcl import losses

CODE = """
import sys
sys.path[:0], sys.path[len(sys.path):] = [{wheel!r}], [{libraries!r}]
from mlcl import losses
import mlcl
assert mlcl.__file__ is None, mlcl.__file__      # nothing of the suite but what the wheel holds
assert "torch" not in sys.modules
import torch
from mlcl.losses import Reg, SimDissim
for name in losses.names():
    info = losses.describe(name)
loss = Reg(num_labels=4, embedding_dim=8)
embeddings = torch.randn(6, 8, requires_grad=True)
loss(embeddings, torch.eye(4)[[0, 1, 2, 3, 0, 1]]).backward()
assert embeddings.grad.isfinite().all()
try:
    SimDissim(5, temperature=-1.0)
except losses.LossError as error:
    assert "temperature" in str(error)
else:
    raise AssertionError("a negative temperature was accepted")
print(len(losses.names()), sorted(name for name in sys.modules if name.startswith(("mlcl.", "data_prep", "pandas"))
                                  and not name.startswith("mlcl.losses")))
"""


@pytest.mark.slow
def test_the_wheel_stands_alone(tmp_path: Path) -> None:
    command = [sys.executable, "distributions/build.py", "mlcl-losses", "--to", str(tmp_path / "dist")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    wheel, sdist = map(Path, done.stdout.splitlines()[-2:])
    assert wheel.name.startswith("mlcl_losses-")
    assert sdist.is_file()
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "alone")
    assert {name.split("/")[1] for name in names if name.startswith("mlcl/")} == {"losses", "suggest.py"}
    assert {"mlcl/losses/__init__.pyi", "mlcl/losses/py.typed"} <= set(names)
    code = CODE.format(wheel=str(tmp_path / "alone"), libraries=sysconfig.get_paths()["purelib"])
    # Neither the environment's .pth files (-S) nor PYTHONPATH and the working directory (-I): they lead to the suite.
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split(maxsplit=1) == [str(len(losses.names())), "['mlcl.suggest']\n"]
